//! Why a step is made.

use crate::controller::kernel::trial::Trial;

/// Why a step is made, and how it is tried before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) trial: Option<Trial>,
    /// In words; where there are none, something was observed.
    pub(crate) because: Vec<String>,
}

impl Change {
    pub(crate) fn asked(trial: Trial, because: String) -> Self {
        Self { trial: Some(trial), because: vec![because] }
    }
}
