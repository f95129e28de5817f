//! What the comparison found, for `balancer verify` and for metrics.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::drift::is_judged;
use super::running::{Running, id};
use crate::control::api::{Shares, Skew, Verification, VerifiedBackend, VerifiedService};
use crate::controller::handle::Refusal;
use crate::drift::Watch;
use crate::metrics::{WatchSample, WatchedBackend};
use crate::model::{BackendId, BackendName, ServiceName};

/// What is said of a backend: when so much more than planned would show.
const SHOWN: f64 = 0.2;

impl Running {
    /// For metrics.
    pub(super) fn watch_sample(&self) -> WatchSample {
        let counted = &self.drift.counted;
        let mut gaps = BTreeMap::new();
        for gap in &self.drift.gaps {
            *gaps.entry(gap.to).or_default() += 1 + gap.others;
        }
        let pairs = self.config.services.iter().flat_map(|service| service.backends.iter().map(move |b| (service, b)));
        let watched = pairs.map(|(service, backend)| {
            let id = id(service, backend);
            let index = self.allocations.backends.get(&id).map(|allocated| allocated.index);
            let watch = self.drift.watches.get(&service.name);
            let counts = self.programmed.get(&service.name).map(|programmed| &programmed.counts);
            let skewed = watch.zip(index).and_then(|(watch, index)| watch.skewed().get(&index));
            let planned = counts.zip(index).and_then(|(counts, index)| counts.share(index));
            let shows = watch.zip(planned).and_then(|(watch, planned)| watch.time_to_show(planned, SHOWN));
            WatchedBackend {
                id,
                skew: skewed.map_or(0.0, |skewed| skewed.finding.effect),
                detection_seconds: shows.map(|time| time.as_secs_f64()),
                capacity: backend.capacity.new_flows,
            }
        });
        let since_epoch = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        WatchSample {
            cycles: counted.cycles,
            last_timestamp_seconds: counted.at.map_or(0.0, since_epoch),
            duration_seconds: counted.took.as_secs_f64(),
            gaps,
            gaps_total: counted.gaps.clone(),
            healed_total: counted.healed,
            config_refused: self.refused.is_some(),
            alarms: self.watchtower.alarms.active(),
            backends: watched.collect(),
            webhooks: self
                .watchtower
                .deliveries
                .iter()
                .map(|(name, told)| (name.clone(), (told.done, told.failed)))
                .collect(),
        }
    }

    /// For `balancer verify`: compares now, and says everything.
    pub(super) fn verify(&mut self, only: Option<&ServiceName>) -> Result<Verification, Refusal> {
        self.is_there(only)?;
        let heal = self.config.node.verify.self_heal;
        self.compare(heal, true).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let mut gaps = self.drift.gaps.clone();
        gaps.extend(self.share_gaps());
        gaps.extend(self.skewed());
        gaps.retain(|gap| only.is_none() || gap.service.is_none() || gap.service.as_ref() == only);
        let status = self.status(only)?;
        let services = status.services.into_iter().filter_map(|status| {
            let service = self.service(&status.name)?;
            let watch = self.drift.watches.get(&status.name);
            let backends = status.backends.into_iter();
            let backends = backends.map(|backend| self.verified(watch, &status.name, backend.name, backend.share));
            Some(VerifiedService {
                new_flows_per_second: watch.map_or(0.0, Watch::rate),
                unjudged: (!is_judged(service))
                    .then(|| "flows are tracked for good: they stay where they began".to_owned()),
                backends: backends.collect(),
                name: status.name.clone(),
            })
        });
        let services = services.collect();
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Ok(Verification { at, seconds: self.drift.counted.took.as_secs_f64(), gaps, services })
    }

    fn verified(
        &self,
        watch: Option<&Watch>,
        service: &ServiceName,
        name: BackendName,
        share: Shares,
    ) -> VerifiedBackend {
        let id = BackendId { service: service.clone(), backend: name.clone() };
        let index = self.allocations.backends.get(&id).map(|allocated| allocated.index);
        let skewed = watch.zip(index).and_then(|(watch, index)| watch.skewed().get(&index));
        let skew = skewed.map(|skewed| Skew {
            effect: skewed.finding.effect,
            score: skewed.finding.score,
            window_seconds: skewed.window.as_secs_f64(),
        });
        let planned = share.planned.filter(|planned| *planned > 0.0 && *planned < 1.0);
        let shows = watch.zip(planned).and_then(|(watch, planned)| watch.time_to_show(planned, SHOWN));
        VerifiedBackend { name, share, shows_after_seconds: shows.map(|time| time.as_secs_f64()), skew }
    }
}
