//! Whether what should run, what runs and what came agree; alarms, drills, and the record of the traffic.

pub(crate) mod apart;
pub(crate) mod counters;
pub(crate) mod drift;
pub(crate) mod drill;
pub(crate) mod findings;
pub(crate) mod gap;
pub(crate) mod name;
pub(crate) mod observer;
pub(crate) mod shares;
pub(crate) mod stage;
pub(crate) mod traffic;
pub(crate) mod watchtower;

use std::time::Duration;

use anyhow::Result;

use crate::control::api::{Drill, Gap, Layer};
use crate::controller::counts::Layout;
use crate::controller::refusal::Refusal;
use crate::controller::watch::drift::Drift;
use crate::controller::watch::drill::DrillRun;
use crate::controller::watch::observer::Observer;
use crate::controller::watch::shares::ShareGaps;
use crate::controller::watch::traffic::Profile;
use crate::controller::watch::watchtower::Watchtower;
use crate::model::ServiceName;

/// How far back the rate of new flows reaches that is held against what a server can take.
pub(crate) const LOAD_WINDOW: Duration = Duration::from_secs(10);

pub(crate) struct Agreement {
    pub(crate) drift: Drift,
    pub(crate) watchtower: Watchtower,
    pub(crate) observer: Observer,
    pub(crate) shares: ShareGaps,
    pub(crate) layout: Layout,
    pub(crate) profile: Profile,
    pub(crate) drilling: Option<DrillRun>,
}

impl Agreement {
    /// New flows a second of a service, lately.
    pub(crate) fn flows(&self, name: &ServiceName) -> Option<f64> {
        let moments = &self.watchtower.moments;
        let now = moments.back()?;
        let then = moments.iter().find(|moment| now.at.duration_since(moment.at) <= LOAD_WINDOW)?;
        let seconds = now.at.duration_since(then.at).as_secs_f64();
        let new = now.counts.flows(name)?.saturating_sub(then.counts.flows(name)?);
        (seconds >= 1.0).then(|| new as f64 / seconds)
    }

    /// Whether the last comparison found another program on the interface, or none, and nobody has put that right.
    pub(crate) fn lost(&self, interface: &str) -> Option<&Gap> {
        let mut all = self.drift.gaps.iter();
        all.find(|gap| gap.to == Layer::Program && gap.entry == interface && !gap.healed)
    }

    /// As last looked at, in the order of names.
    pub(crate) fn known_share_gaps(&self) -> impl Iterator<Item = &Gap> {
        self.shares.found.values().flatten()
    }

    pub(crate) fn drill(&self) -> Result<Drill, Refusal> {
        let none = || Refusal::NotFound("there was no drill; `balancer drill table` starts one".to_owned());
        self.drilling.as_ref().map(|drilling| drilling.said.clone()).ok_or_else(none)
    }
}
