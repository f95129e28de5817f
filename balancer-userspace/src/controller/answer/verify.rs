//! What the comparison found, for `balancer verify` and for metrics of backends.

use std::time::{Duration, SystemTime};

use crate::alarm::catalogue;
use crate::control::api::{Skew, Verification, VerifiedBackend, VerifiedService};
use crate::controller::look::flows::is_judged;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::drift::{Skewed, Watch};
use crate::metrics::WatchedBackend;
use crate::model::{Backend, BackendId, Service, ServiceName};

/// What is said of a backend: when so much more than planned would show.
const SHOWN: f64 = 0.2;

impl State {
    pub(crate) fn watched_backend(&self, service: &Service, backend: &Backend) -> WatchedBackend {
        let id = service.id_of(backend);
        let (skewed, shows) = self.watched(&id);
        WatchedBackend {
            skew: skewed.map_or(0.0, |skewed| skewed.finding.effect),
            detection_seconds: shows.map(|time| time.as_secs_f64()),
            capacity: backend.capacity.new_flows,
            path_mtu: self.observed.path_mtu(service, backend).map(|(told, _)| told),
            id,
        }
    }

    /// For `balancer verify`: compares now, and says everything.
    pub(crate) fn verify(&mut self, only: Option<&ServiceName>) -> Result<Verification, Refusal> {
        self.desired.is_there(only)?;
        let heal = self.desired.config.node.verify.self_heal;
        self.compare(heal, true).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let mut gaps = self.watch.drift.gaps.clone();
        gaps.extend(self.share_gaps());
        gaps.extend(self.skewed());
        gaps.retain(|gap| only.is_none() || gap.service.is_none() || gap.service.as_ref() == only);
        let (asked_for, gaps) = gaps.into_iter().partition(|gap| gap.alarm == catalogue::OVERRIDDEN.name);
        let status = self.status(only)?;
        let services = status.services.into_iter().filter_map(|status| {
            let service = self.desired.service(&status.name)?;
            let watch = self.watch.drift.watches.get(&status.name);
            let backends = status.backends.into_iter().map(|backend| {
                let (skewed, shows) =
                    self.watched(&BackendId { service: status.name.clone(), backend: backend.name.clone() });
                let skew = skewed.map(|skewed| Skew {
                    effect: skewed.finding.effect,
                    score: skewed.finding.score,
                    window_seconds: skewed.window.as_secs_f64(),
                });
                let shows_after_seconds = shows.map(|time| time.as_secs_f64());
                VerifiedBackend { name: backend.name, share: backend.share, shows_after_seconds, skew }
            });
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
        Ok(Verification { at, seconds: self.watch.drift.counted.took.as_secs_f64(), gaps, asked_for, services })
    }

    /// Whether a backend is skewed, and after how long it would show that it is.
    fn watched(&self, id: &BackendId) -> (Option<&Skewed>, Option<Duration>) {
        let watch = self.watch.drift.watches.get(&id.service);
        let counts = self.kernel.programmed.get(&id.service).map(|programmed| &programmed.counts);
        let Some(((watch, counts), index)) = watch.zip(counts).zip(self.kernel.index_of(id)) else {
            return (None, None);
        };
        let shows = counts.share(index).and_then(|planned| watch.time_to_show(planned, SHOWN));
        (watch.skewed().get(&index), shows)
    }
}
