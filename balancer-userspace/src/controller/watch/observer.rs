//! The share of new flows each backend really got, over a window that starts no earlier than the last change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::controller::flows::{NewFlows, start};
use crate::dataplane::Counters;

/// How far back a window reaches, and how often its start may move.
const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Observer {
    moments: VecDeque<NewFlows>,
}

impl Observer {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.moments.back().is_none_or(|last| now.duration_since(last.at) >= STEP)
    }

    pub(crate) fn note(&mut self, moment: NewFlows) {
        while self.moments.len() > 1 && moment.at.duration_since(self.moments[1].at) >= WINDOW {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }

    /// Where windows begin at the earliest.
    pub(crate) fn oldest(&self) -> Option<NewFlows> {
        self.moments.front().cloned()
    }

    /// New flows of `indices` since the window's start: since `changed`, but at most about a minute ago.
    pub(crate) fn since(&self, changed: &NewFlows, now: &[Counters], indices: &[u16]) -> Vec<u64> {
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
        observer.note(NewFlows::new(at(0), &counters(0)));
        let changed = NewFlows::new(at(3), &counters(100));
        assert_eq!(observer.since(&changed, &counters(150), &[0]), [50]);
        for step in 1..=20 {
            assert!(observer.is_due(at(step * 5)));
            observer.note(NewFlows::new(at(step * 5), &counters(100 + step * 10)));
        }
        // 100 s after the start the window begins 60 s earlier, at 40 s.
        assert_eq!(observer.since(&changed, &counters(300), &[0]), [120]);
    }
}
