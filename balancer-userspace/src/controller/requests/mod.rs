//! What can be asked of the controller, one file a command: what travels to it, who may take how long, and how it is answered.
//!
//! Client, router, the error for an unknown path and docs/api.md all come from the list at the end.

mod apply;
mod capture;
mod detach;
mod doctor;
mod drain;
mod drill;
mod explain;
mod history;
mod plan;
#[cfg(test)]
mod reference;
mod rehearse;
mod reload;
mod request;
mod rollback;
mod status;
mod verify;
mod weight;

pub use self::request::{Body, Method, PREFIX, Reply, Request};

/// Something that is done for each request of the list.
pub trait Visit {
    fn visit<R: Request>(&mut self);
}

macro_rules! requests {
    ($($module:ident :: $request:ident),* $(,)?) => {
        $(pub use self::$module::$request;)*

        /// Every request there is.
        pub fn each(visitor: &mut impl Visit) {
            $(visitor.visit::<$request>();)*
        }
    };
}

requests! {
    status::GetStatus,
    verify::Compare,
    explain::Explain,
    doctor::Examine,
    capture::Capture,
    weight::SetWeight,
    drain::Drain,
    drain::Undrain,
    plan::MakePlan,
    rehearse::Rehearse,
    apply::Apply,
    reload::Reload,
    rollback::Confirm,
    rollback::Rollback,
    history::GetHistory,
    history::VerifyHistory,
    history::GetGeneration,
    drill::StartDrill,
    drill::GetDrill,
    detach::Detach,
}

pub use self::explain::ConfigText;
