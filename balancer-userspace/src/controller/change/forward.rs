//! Something else comes into force. That needs permission: all that could fail is tried before the kernel is touched, and an
//! error leaves what was in force.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::controller::desired::probation::Probation;
use crate::controller::desired::whole::Next;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::unwritten::Part;
use crate::history::digest;
use crate::model::{BackendId, ServiceName};

/// Which services a change concerns.
#[derive(Debug, Clone)]
pub(crate) enum Dirty {
    All,
    /// These, and those whose tables were planned with other weights than are in force then.
    Differing(BTreeSet<ServiceName>),
    Only(BTreeSet<ServiceName>),
}

impl State {
    /// Brings `next` into force, whole; on probation where `guard` is given. Where `writes`, the config file becomes its text.
    /// Answers the overrides that the file ended.
    ///
    /// # Errors
    /// Where anything failed; what was in force before still is.
    pub(crate) fn forward(
        &mut self,
        next: Next,
        dirty: Dirty,
        change: Change,
        writes: bool,
        guard: Option<Probation>,
    ) -> Result<Vec<BackendId>, Refusal> {
        let checked = matches!(next, Next::Config(_)).then(|| self.observed.checked.clone());
        let before = self.desired.swap(next);
        let guarded = guard.is_some();
        if guarded {
            self.desired.probation = guard;
        }
        let mut placed = false;
        let mut outcome = self.try_forward(dirty, change, writes, &mut placed);
        if let Err(refusal) = outcome {
            self.desired.swap(before);
            if guarded {
                self.desired.probation = None;
            }
            if let Some(checked) = checked {
                self.observed.checked = checked;
            }
            self.kernel.detach_unwanted(&self.desired.config.interfaces);
            // Where it can't be written it is tried again, as is said.
            self.keep(Part::Overrides).ok();
            if placed {
                self.keep(Part::File).ok();
            }
            outcome = Err(self.repaired(refusal));
            if guarded {
                self.keep(Part::Guard).ok();
            }
        } else {
            self.kernel.detach_unwanted(&self.desired.config.interfaces);
        }
        outcome
    }

    /// `placed`: whether the new config file is in its place, also where that failed in the end.
    fn try_forward(
        &mut self,
        dirty: Dirty,
        change: Change,
        writes: bool,
        placed: &mut bool,
    ) -> Result<Vec<BackendId>, Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let (mut ended, mut staged) = (Vec::new(), None);
        if !matches!(dirty, Dirty::Only(_)) {
            self.kernel.attach_interfaces(&self.desired.config.interfaces).map_err(Refusal::Invalid)?;
            ended = self.desired.end_overrides();
            self.forget_strangers();
            self.carry_ways();
            staged = if writes { self.desired.stage_config()? } else { None };
            // What a rollback needs, and what a restart needs.
            self.store.save_content(&digest(self.desired.text.as_bytes()), &self.desired.text).map_err(failed)?;
        }
        let dirty = match dirty {
            Dirty::All => self.desired.all_services(),
            Dirty::Differing(services) => self.out_of_weight(services),
            Dirty::Only(services) => services,
        };
        self.begin_overrides();
        self.reconcile(dirty, change).map_err(failed)?;
        if let Some(staged) = staged {
            self.desired.put_config(staged, placed)?;
        }
        Ok(ended)
    }
}
