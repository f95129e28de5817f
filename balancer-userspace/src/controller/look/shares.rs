//! Gaps between weights as written, what is left of them, and the table.

use crate::alarm::catalogue;
use crate::control::api::{BackendState, Gap, Layer};
use crate::controller::state::State;
use crate::controller::watch::gap::gap;
use crate::model::{Service, ServiceName};
use crate::plan::share;

/// Services without a gap that nothing is known to have touched are looked at all the same, in turn, so many backends a
/// second.
const BACKENDS_A_SECOND: usize = 1_000;

impl State {
    /// Gaps between weights, what is left of them, and the table: where a step was made since the last look, where there
    /// were any, and in some of the others.
    pub(crate) fn watch_shares(&mut self) {
        let mut names = std::mem::take(&mut self.watch.shares.again);
        names.extend(std::mem::take(&mut self.watch.shares.found).into_keys());
        names.extend(self.in_turn());
        self.publishing.look_again(&names);
        let gaps = |service: &Service| Some((service.name.clone(), self.share_gaps_of(service)));
        let found = names.iter().filter_map(|name| gaps(self.desired.service(name)?));
        self.watch.shares.found = found.filter(|(_, gaps)| !gaps.is_empty()).collect();
    }

    fn in_turn(&mut self) -> Vec<ServiceName> {
        let services = &self.desired.config.services;
        let (mut names, mut backends, mut next) = (Vec::new(), 0, self.watch.shares.next);
        while names.len() < services.len() && backends < BACKENDS_A_SECOND {
            next = if next < services.len() { next } else { 0 };
            names.push(services[next].name.clone());
            backends += services[next].backends.len().max(1);
            next += 1;
        }
        self.watch.shares.next = next;
        names
    }

    /// The same, all of them looked at now.
    pub(crate) fn share_gaps(&self) -> Vec<Gap> {
        self.desired.config.services.iter().flat_map(|service| self.share_gaps_of(service)).collect()
    }

    fn share_gaps_of(&self, service: &Service) -> Vec<Gap> {
        let effective: Vec<_> = service.backends.iter().map(|b| self.effective(service, b)).collect();
        let left: u64 = effective.iter().map(|e| u64::from(e.weight.get())).sum();
        let serves = effective.iter().any(|e| e.state == BackendState::Up && !e.weight.is_zero());
        let programmed = self.kernel.programmed.get(&service.name);
        let slot = 1.0 / f64::from(service.table_size.get());
        let mut gaps = Vec::new();
        for (backend, effective) in service.backends.iter().zip(effective) {
            let weight = backend.weight;
            let about = |alarm, from, to, entry: &str, expected: String, found: String| Gap {
                service: Some(service.name.clone()),
                backend: Some(backend.name.clone()),
                entry: entry.to_owned(),
                ..gap(alarm, from, to, &expected, &found)
            };
            let now = u64::from(effective.weight.get());
            let set = self.desired.overrides.get(&service.id_of(backend));
            let said = set.and_then(|set| match set.weight {
                _ if set.drained => Some("drained".to_owned()),
                // What the file says as well is no difference.
                set => set.filter(|set| *set != weight.get()).map(|weight| format!("weight {weight}")),
            });
            if let Some((set, said)) = set.zip(said) {
                let found = format!("{said} since {}, by uid {}", set.at, set.by_uid);
                let name = catalogue::OVERRIDDEN.name;
                gaps.push(about(name, Layer::Config, Layer::Effective, "weight", format!("weight {weight}"), found));
            }
            if matches!(effective.state, BackendState::Down | BackendState::Unknown) {
                let checked =
                    self.observed.checked.get(&service.id_of(backend)).and_then(|checked| checked.error.clone());
                let why = checked.or(effective.reason).unwrap_or_default();
                let found = format!("{}: {why}", effective.state.as_str());
                let name = catalogue::BACKEND_DOWN.name;
                gaps.push(about(name, Layer::Config, Layer::Effective, "weight", format!("weight {weight}"), found));
            }
            let counts = programmed.map(|programmed| &programmed.counts);
            let planned = counts
                .zip(self.kernel.index_of(&service.id_of(backend)))
                .and_then(|(counts, index)| counts.share(index));
            let (wanted, planned) = (share(now, left).unwrap_or(0.0), planned.unwrap_or(0.0));
            // A slot is what a table rounds to; a change that is being made is none.
            if (wanted - planned).abs() > slot && left > 0 && self.kernel.is_in_step() {
                let of = |share: f64| format!("{:.4} % of the table", share * 100.0);
                let name = catalogue::ROUNDED.name;
                gaps.push(about(name, Layer::Effective, Layer::Planned, "share", of(wanted), of(planned)));
            }
        }
        if !serves {
            let kept = "none is up; the table stays as it was";
            let (expected, found) = ("backends that take flows", if left == 0 { "none" } else { kept });
            let name = Some(service.name.clone());
            let entry = "backends".to_owned();
            let none = gap(catalogue::SERVICE_DOWN.name, Layer::Config, Layer::Effective, expected, found);
            gaps.push(Gap { service: name, entry, ..none });
        }
        gaps
    }
}
