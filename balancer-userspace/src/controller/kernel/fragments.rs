//! Fragments that came before the first of their packet: kept for a moment, and sent into the program again once it knows
//! where that one went.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::dataplane::DataPlane;

/// Fragments kept at a time; more are lost.
const MOST: usize = 256;
/// Networks that put packets in another order do so within milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it is looked after them.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct FragmentBuffer(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    frame: Vec<u8>,
    ifindex: u32,
    since: Instant,
}

impl FragmentBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn keep(&mut self, frame: Vec<u8>, ifindex: u32, now: Instant) {
        if self.0.len() < MOST {
            self.0.push_back(Kept { frame, ifindex, since: now });
        }
    }

    /// Sends in what can go now, and forgets what waited for too long.
    pub(crate) fn release(&mut self, plane: &mut DataPlane, now: Instant) {
        self.0.retain(|kept| {
            if plane.knows_fragment(&kept.frame) {
                if let Err(error) = plane.inject(&kept.frame, kept.ifindex) {
                    log::warn!("{error:#}");
                }
                return false;
            }
            now.duration_since(kept.since) < PATIENCE
        });
    }
}
