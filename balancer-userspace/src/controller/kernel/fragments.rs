//! Fragments that came before the first of their packet: kept for a moment, and sent into the program again once it knows
//! where that one went.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::dataplane::DataPlane;

/// Fragments kept at a time; more are lost.
const MOST: usize = 256;
/// Networks that put packets in another order do so within milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked after them.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct FragmentBuffer {
    kept: VecDeque<Kept>,
    /// Those that were sent in again: the program counted each as dropped when it came.
    delivered: u64,
    /// Drops as last told; what is told never falls.
    told: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    frame: Vec<u8>,
    ifindex: u32,
    since: Instant,
}

impl FragmentBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn keep(&mut self, frame: Vec<u8>, ifindex: u32, now: Instant) {
        if self.kept.len() < MOST {
            self.kept.push_back(Kept { frame, ifindex, since: now });
        }
    }

    /// Sends in what can go now, and forgets what waited for too long.
    pub(crate) fn release(&mut self, plane: &mut DataPlane, now: Instant) {
        let delivered = &mut self.delivered;
        self.kept.retain(|kept| {
            if plane.knows_fragment(&kept.frame) {
                match plane.inject(&kept.frame, kept.ifindex) {
                    Ok(()) => *delivered += 1,
                    Err(error) => log::warn!("{error:#}"),
                }
                return false;
            }
            now.duration_since(kept.since) < PATIENCE
        });
    }

    /// Fragments that the program counted as dropped and that were sent in again, or wait for that.
    pub(crate) fn recovered(&self) -> u64 {
        self.delivered + self.kept.len() as u64
    }

    /// Of the fragments that the program counted as dropped, those that are lost: neither sent in again nor waiting for that.
    pub(crate) fn lost(&self, counted: u64) -> u64 {
        let lost = counted.saturating_sub(self.recovered());
        self.told.fetch_max(lost, Ordering::Relaxed).max(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_or_was_delivered_is_not_lost_and_what_is_told_never_falls() {
        let mut buffer = FragmentBuffer::default();
        assert_eq!(buffer.lost(3), 3, "they came while nobody was there to keep them");
        buffer.keep(vec![0; 60], 1, Instant::now());
        assert_eq!(buffer.lost(4), 3, "one waits");
        buffer.kept.clear();
        buffer.delivered = 1;
        assert_eq!(buffer.lost(4), 3, "it was delivered");
        assert_eq!(buffer.lost(6), 5, "two more were not kept");
        buffer.delivered = 3;
        assert_eq!(buffer.lost(6), 5);
    }
}
