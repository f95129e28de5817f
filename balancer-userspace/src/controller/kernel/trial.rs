//! How much a trial of a change may cost, and where it is made.

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

/// A second instance of the program, in which changes are tried.
#[derive(Default)]
pub(crate) struct Rehearsal {
    /// Loaded when it is first needed.
    pub(crate) shadow: Option<Shadow>,
    /// Once is enough where it can't be loaded, until a change needs it.
    pub(crate) tried: bool,
}
