//! New flows of backends, as counted at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::dataplane::Counters;

/// New flows by index at one moment. A copy is the same memory.
#[derive(Debug, Clone)]
pub(crate) struct NewFlows {
    pub(crate) at: Instant,
    counted: Arc<OfBackends>,
}

#[derive(Debug)]
enum OfBackends {
    All(Vec<u64>),
    /// Of those that were looked at; the others had none.
    Some(BTreeMap<u16, u64>),
}

impl NewFlows {
    pub(crate) fn new(at: Instant, counters: &[Counters]) -> Self {
        let new_flows = OfBackends::All(counters.iter().map(|c| c.new_flows).collect());
        Self { at, counted: Arc::new(new_flows) }
    }

    /// Of a few backends.
    pub(crate) fn of_some(at: Instant, counters: &BTreeMap<u16, Counters>) -> Self {
        let new_flows = counters.iter().map(|(index, counters)| (*index, counters.new_flows)).collect();
        Self { at, counted: Arc::new(OfBackends::Some(new_flows)) }
    }

    pub(crate) fn of(&self, index: u16) -> u64 {
        let of = match &*self.counted {
            OfBackends::All(all) => all.get(usize::from(index)),
            OfBackends::Some(some) => some.get(&index),
        };
        of.copied().unwrap_or(0)
    }
}

/// Where the window of something begins that changed then: no earlier than `oldest`.
pub(crate) fn start<'a>(oldest: Option<&'a NewFlows>, changed: &'a NewFlows) -> &'a NewFlows {
    oldest.filter(|oldest| oldest.at > changed.at).unwrap_or(changed)
}
