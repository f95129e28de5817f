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
mod rollback;
mod status;
mod verify;
mod weight;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::controller::handle::{Caller, Handle, Refusal};

/// What every path begins with.
pub const PREFIX: &str = "/v1/";
/// A config of many services and lists.
const LARGEST_CONFIG: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Fields travel as the query.
    Get,
    /// Fields travel as a JSON body.
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// One command of the control socket.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    type Answer: Reply;

    const METHOD: Method;
    /// Below [`PREFIX`].
    const PATH: &'static str;
    /// What it does, in one sentence.
    const MEANS: &'static str;
    /// Each field, and what it says.
    const FIELDS: &'static [(&'static str, &'static str)];
    /// Whether something is another afterwards.
    const CHANGES: bool = false;
    /// Bytes of a body.
    const LARGEST: usize = 64 * 1024;
    /// How long the client waits: what is only read is answered at once, a change of a large config takes seconds.
    const PATIENCE: Duration = match Self::METHOD {
        Method::Get => Duration::from_secs(10),
        Method::Post => Duration::from_secs(60),
    };

    /// As the log has it, with who asked; `None` where it is not logged.
    fn said(&self) -> Option<String> {
        None
    }

    /// What JSON alone does not rule out.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Runs in a task of its own: what needs the controller's goes there by `Handle::run`.
    fn answer(self, handle: Handle, caller: Caller) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;
}

/// How an answer travels.
pub enum Body {
    Json(serde_json::Result<Vec<u8>>),
    /// A pcapng file, as it comes.
    Packets(mpsc::Receiver<Bytes>),
}

pub trait Reply: Send + 'static {
    fn body(self) -> Body;
}

impl<T: Serialize + Send + 'static> Reply for T {
    fn body(self) -> Body {
        Body::Json(serde_json::to_vec(&self))
    }
}

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
