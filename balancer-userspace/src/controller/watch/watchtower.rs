//! Alarms, and what they are made of.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::alarm::{Alarms, Delivery, Raised, catalogue};
use crate::controller::counts::Counts;

/// Alarms and what they are made of.
#[derive(Default)]
pub(crate) struct Watchtower {
    pub(crate) alarms: Alarms,
    pub(crate) moments: VecDeque<Moment>,
    /// A guarded change that was taken back, when, and why.
    pub(crate) taken_back: Option<(Instant, String)>,
    /// Packets of which the loaded program decided otherwise than its model.
    pub(crate) disagreed: Option<(Instant, String)>,
    /// Alarms of a drill.
    pub(crate) drill: Vec<Raised>,
    /// By name of the webhook.
    pub(crate) deliveries: BTreeMap<String, Deliveries>,
}

/// How requests to a webhook ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deliveries {
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// Why none arrives.
    pub(crate) unreached: Option<String>,
    /// Alarms of drills that arrived: name and whether they were over.
    pub(crate) drilled: Vec<(String, bool)>,
}

impl Watchtower {
    pub(crate) fn note_delivery(&mut self, delivery: Delivery) {
        let told = self.deliveries.entry(delivery.name).or_default();
        match delivery.outcome {
            Ok(alarms) => {
                told.done += 1;
                told.unreached = None;
                let drills = alarms.into_iter().filter(|alarm| alarm.alarm == catalogue::DRILL.name);
                told.drilled =
                    drills.map(|alarm| (alarm.subject.entry.unwrap_or_default(), alarm.until.is_some())).collect();
            }
            Err(why) => {
                log::warn!("a webhook was not reached: {why}");
                told.failed += 1;
                told.unreached = delivery.unreached.then_some(why);
            }
        }
    }
}

/// What was counted at a moment.
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) counts: Counts,
}
