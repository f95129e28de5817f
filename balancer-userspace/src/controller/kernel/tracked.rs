//! What is followed of a service beside its table.

use std::collections::BTreeSet;

use balancer_common::slot::BackendIndex;

/// What is followed of a service beside its table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracked {
    /// Entries of the flow table when it was last looked through.
    pub(crate) flows: u64,
    /// When that is due again.
    pub(crate) sweep_at: u32,
    /// Backends that had entries in it then.
    pub(crate) owners: BTreeSet<BackendIndex>,
}

impl Tracked {
    /// After a change of the table: look at once.
    pub(crate) fn changed(self) -> Self {
        Self { sweep_at: 0, ..self }
    }
}
