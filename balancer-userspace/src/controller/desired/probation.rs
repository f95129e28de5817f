//! A guarded change that nobody has confirmed yet: what it goes back to, and how far it has come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::control::api::Guard;
use crate::controller::counts::Counts;
use crate::controller::desired::whole::Whole;
use crate::controller::proposal::ChangeRequest;
use crate::model::{BackendId, Weight};
use crate::state::Fallback;

/// A change that nobody has confirmed yet.
pub(crate) struct Probation {
    /// What it goes back to; needs no file.
    pub(crate) before_it: Whole,
    /// The same as it is on disk.
    pub(crate) fallback: Fallback,
    /// Of services that change: each backend's share before and after.
    pub(crate) shares: BTreeMap<BackendId, (f64, f64)>,
    /// Backends that were up.
    pub(crate) up: Vec<BackendId>,
    pub(crate) before: Counts,
    pub(crate) asked: ChangeRequest,
    pub(crate) step: u32,
    pub(crate) steps: u32,
    pub(crate) next: Instant,
    pub(crate) pause: Duration,
    pub(crate) deadline: Instant,
}

impl Probation {
    /// What a backend has for a weight at this step: the share that it had and the one that it is to have, mixed. Shares
    /// and not weights, so that every step moves as much as the others.
    pub(crate) fn ramped(&self, id: &BackendId, weight: Weight) -> Weight {
        let Some((before, after)) = self.shares.get(id).filter(|_| self.step < self.steps && !weight.is_zero()) else {
            return weight;
        };
        let now = before + (after - before) * f64::from(self.step) / f64::from(self.steps);
        // Who is to take flows takes some from the first step on.
        Weight::new((now * f64::from(Weight::MAX)).round().max(1.0) as u32).unwrap_or(weight)
    }

    pub(crate) fn said(&self) -> Guard {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (command, step, steps) = (self.asked.command.clone(), self.step, self.steps);
        Guard { command, step, steps, seconds_left: left.as_secs() }
    }
}
