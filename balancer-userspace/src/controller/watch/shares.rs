//! Gaps between weights as written, what is left of them, and the table, as last found.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::api::Gap;
use crate::model::ServiceName;

/// Gaps as last found: whoever looks again looks at what changed.
#[derive(Default)]
pub(crate) struct ShareGaps {
    pub(crate) found: BTreeMap<ServiceName, Vec<Gap>>,
    pub(crate) again: BTreeSet<ServiceName>,
    /// The service of the config that is the next in turn.
    pub(crate) next: usize,
}

impl ShareGaps {
    /// What a step touches is looked at next.
    pub(crate) fn look_again(&mut self, services: &BTreeSet<ServiceName>) {
        self.again.extend(services.iter().cloned());
    }
}
