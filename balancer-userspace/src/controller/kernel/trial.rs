//! How much a trial of a change may cost, and where it is made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::controller::kernel::drafts::Drafts;
use crate::dataplane::Shadow;

/// How many packets a change may cost: of a config file, some tens of milliseconds; of a command, a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) packets: usize,
}

impl Trial {
    pub(crate) const FILE: Self = Self { packets: 8_192 };

    pub(crate) const COMMAND: Self = Self { packets: 512 };
}

/// A second instance of the program, loaded when it is first needed. Changes are tried in it one after the other, wherever.
#[derive(Clone, Default)]
pub(crate) struct SharedShadow(Arc<Mutex<Option<Shadow>>>);

impl SharedShadow {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Shadow>> {
        // Each trial prepares it anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody tries anything in it now.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, Option<Shadow>>> {
        self.0.try_lock().ok()
    }
}

/// How changes are tried before they are made.
#[derive(Default)]
pub(crate) struct Rehearsal {
    pub(crate) shadow: SharedShadow,
    /// Tables that were made ahead for the next step.
    pub(crate) drafts: Drafts,
    /// Once is enough where it can't be loaded, until a change needs it.
    pub(crate) tried: bool,
}
