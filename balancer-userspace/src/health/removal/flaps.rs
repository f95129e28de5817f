//! Damping: a backend that goes down again and again has to answer for longer and longer before it gets flows again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many times down within so many windows is flapping.
const MANY: usize = 3;
const WITHIN: u32 = 20;
/// Times that are remembered.
const MOST: usize = 8;
/// Who flaps waits no longer than so many windows.
const LONGEST: u32 = 16;

#[derive(Debug, Clone, Default)]
pub(super) struct Flaps {
    downs: VecDeque<Instant>,
    /// Since when it answers without a break.
    answers: Option<Instant>,
}

impl Flaps {
    pub(super) fn goes_down(&mut self, now: Instant) {
        if self.downs.len() == MOST {
            self.downs.pop_front();
        }
        self.downs.push_back(now);
        self.answers = None;
    }

    pub(super) fn fails(&mut self) {
        self.answers = None;
    }

    /// It answers: whether it has done so for long enough.
    pub(super) fn may_return(&mut self, window: Duration, now: Instant) -> bool {
        let since = *self.answers.get_or_insert(now);
        now.duration_since(since) >= wait(self.count(window, now), window)
    }

    fn count(&self, window: Duration, now: Instant) -> usize {
        self.downs.iter().filter(|at| now.duration_since(**at) < window * WITHIN).count()
    }

    /// What it does, where it flaps.
    pub(super) fn said(&self, window: Duration, now: Instant) -> Option<String> {
        let count = self.count(window, now);
        let more = if count == MOST { " or more" } else { "" };
        let within = humantime::format_duration(window * WITHIN);
        (count >= MANY).then(|| format!("it flaps: down {count}{more} times within {within}"))
    }
}

/// Twice as long for each further time.
fn wait(count: usize, window: Duration) -> Duration {
    match count.checked_sub(MANY) {
        Some(beyond) => window * (1u32 << beyond.min(MOST)).min(LONGEST),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_flaps_waits_longer_each_time_and_is_forgiven() {
        let seconds = Duration::from_secs;
        let start = Instant::now();
        let waits = |count| wait(count, seconds(7)).as_secs();
        assert_eq!([waits(0), waits(2), waits(3), waits(4), waits(5), waits(8)], [0, 0, 7, 14, 28, 112]);
        let mut flaps = Flaps::default();
        for round in 0..100 {
            flaps.goes_down(start + seconds(round));
        }
        assert_eq!(flaps.downs.len(), MOST, "bounded");
        assert!(flaps.said(seconds(7), start + seconds(100)).unwrap().contains("down 8 or more times within 2m 20s"));
        assert!(!flaps.may_return(seconds(7), start + seconds(100)));
        assert!(!flaps.may_return(seconds(7), start + seconds(211)));
        assert!(flaps.may_return(seconds(7), start + seconds(212)));
        flaps.fails();
        assert!(!flaps.may_return(seconds(7), start + seconds(213)));
        assert!(
            flaps.said(seconds(7), start + seconds(400)).is_none()
                && flaps.may_return(seconds(7), start + seconds(400))
        );
    }
}
