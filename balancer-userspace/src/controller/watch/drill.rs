//! A drill under way, or over.

use std::time::Instant;

use crate::control::api::{Drill, DrillStep};
use crate::controller::watch::stage::Stage;

/// A drill under way, or over.
pub(crate) struct DrillRun {
    pub(crate) said: Drill,
    /// Gone once the fault is.
    pub(crate) stage: Option<Stage>,
    pub(crate) start: Instant,
    pub(crate) deadline: Instant,
}

impl DrillRun {
    /// Whether this is news.
    pub(crate) fn step(&mut self, what: String, detail: Option<String>) -> bool {
        if self.said.steps.iter().any(|step| step.what == what) {
            return false;
        }
        log::info!("drill {}: {what}", self.said.fault);
        self.said.steps.push(DrillStep { seconds: self.start.elapsed().as_secs_f64(), what, detail });
        true
    }
}
