//! What the comparison found, for metrics.

use std::collections::BTreeMap;

use crate::controller::state::State;
use crate::metrics::WatchSample;

impl State {
    /// Without backends.
    pub(crate) fn watch_sample(&self) -> WatchSample {
        let counted = &self.watch.drift.counted;
        let mut gaps = BTreeMap::new();
        for gap in &self.watch.drift.gaps {
            *gaps.entry(gap.to).or_default() += 1 + gap.others;
        }
        WatchSample {
            cycles: counted.cycles,
            last_timestamp_seconds: counted.at.map_or(0.0, |at| at.unix_seconds()),
            duration_seconds: counted.took.as_secs_f64(),
            gaps,
            gaps_total: counted.gaps.clone(),
            healed_total: counted.healed,
            config_refused: self.desired.refused.is_some(),
            alarms: self.watch.watchtower.alarms.active(),
            findings: self.desired.judged.in_force().to_vec(),
            backends: Vec::new(),
            webhooks: self
                .watch
                .watchtower
                .deliveries
                .iter()
                .map(|(name, told)| (name.clone(), (told.done, told.failed)))
                .collect(),
        }
    }
}
