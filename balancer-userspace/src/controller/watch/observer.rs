//! The share of new flows each backend really got, over a window that starts no earlier than the last change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dataplane::Counters;

/// How far back a window reaches, and how often its start may move.
const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(5);

/// New flows by index at one moment. A copy is the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    new_flows: Arc<NewFlows>,
}

#[derive(Debug)]
enum NewFlows {
    All(Vec<u64>),
    /// Of those that were looked at; the others had none.
    Some(BTreeMap<u16, u64>),
}

impl Moment {
    pub(crate) fn new(at: Instant, counters: &[Counters]) -> Self {
        let new_flows = NewFlows::All(counters.iter().map(|c| c.new_flows).collect());
        Self { at, new_flows: Arc::new(new_flows) }
    }

    /// Of a few backends.
    pub(crate) fn of_some(at: Instant, counters: &BTreeMap<u16, Counters>) -> Self {
        let new_flows = counters.iter().map(|(index, counters)| (*index, counters.new_flows)).collect();
        Self { at, new_flows: Arc::new(NewFlows::Some(new_flows)) }
    }

    pub(crate) fn of(&self, index: u16) -> u64 {
        let of = match &*self.new_flows {
            NewFlows::All(all) => all.get(usize::from(index)),
            NewFlows::Some(some) => some.get(&index),
        };
        of.copied().unwrap_or(0)
    }
}

/// Where the window of something begins that changed then: no earlier than `oldest`.
pub(crate) fn start<'a>(oldest: Option<&'a Moment>, changed: &'a Moment) -> &'a Moment {
    oldest.filter(|oldest| oldest.at > changed.at).unwrap_or(changed)
}

#[derive(Debug, Default)]
pub(crate) struct Observer {
    moments: VecDeque<Moment>,
}

impl Observer {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.moments.back().is_none_or(|last| now.duration_since(last.at) >= STEP)
    }

    pub(crate) fn note(&mut self, moment: Moment) {
        while self.moments.len() > 1 && moment.at.duration_since(self.moments[1].at) >= WINDOW {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }

    /// Where windows begin at the earliest.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.moments.front().cloned()
    }

    /// New flows of `indices` since the window's start: since `changed`, but at most about a minute ago.
    pub(crate) fn since(&self, changed: &Moment, now: &[Counters], indices: &[u16]) -> Vec<u64> {
        let start = start(self.moments.front(), changed);
        let count = |index: &u16| now.get(usize::from(*index)).map_or(0, |c| c.new_flows);
        indices.iter().map(|index| count(index).saturating_sub(start.of(*index))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(new_flows: u64) -> [Counters; 1] {
        [Counters { new_flows, ..Counters::default() }]
    }

    #[test]
    fn the_window_starts_at_the_change_and_then_slides() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut observer = Observer::default();
        observer.note(Moment::new(at(0), &counters(0)));
        let changed = Moment::new(at(3), &counters(100));
        assert_eq!(observer.since(&changed, &counters(150), &[0]), [50]);
        for step in 1..=20 {
            assert!(observer.is_due(at(step * 5)));
            observer.note(Moment::new(at(step * 5), &counters(100 + step * 10)));
        }
        // 100 s after the start the window begins 60 s earlier, at 40 s.
        assert_eq!(observer.since(&changed, &counters(300), &[0]), [120]);
    }
}
