//! What a config would change, with the health and the commands of now.

use std::collections::HashMap;

use crate::control::api::{ChangeKind, Plan, PlannedService, PlannedWarning};
use crate::controller::ahead::Ahead;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::doctor::Link;
use crate::model::{Backend, BackendName, Config, Service, Weight};
use crate::plan::preview::{Preview, Weighing};

impl State {
    /// Refused where applying it would be.
    pub(crate) fn preview(&self, ahead: Ahead, plan: Option<&str>, links: &[Link]) -> Result<Plan, Refusal> {
        let Ahead { text, linted } = ahead;
        let (loaded, found) = linted?;
        self.refuse_while_guarded()?;
        self.desired.admissible(&loaded.config, &text, plan)?;
        self.kernel.refuse_unattachable(&loaded.config, links)?;
        let Preview { mut services, worst_before, worst_after, risk, why } = self.preview_of(&loaded.config);
        for planned in services.iter_mut().filter(|planned| planned.change == ChangeKind::Changed) {
            planned.flows_following = self.following(planned);
        }
        let counting = found.findings.iter().filter(|finding| finding.counts());
        let warnings = counting.map(|finding| PlannedWarning {
            id: finding.id.to_owned(),
            message: finding.message.clone(),
            new: !self.desired.is_known(finding),
        });
        Ok(Plan {
            id: self.desired.plan_id(&text),
            generation: self.kernel.generation,
            services,
            worst_before,
            worst_after,
            risk,
            why,
            warnings: warnings.collect(),
        })
    }

    /// What another config would change.
    pub(crate) fn preview_of(&self, config: &Config) -> Preview {
        let (old, new) = (self.left(&self.desired.config), self.left(config));
        let before =
            Weighing { services: &self.desired.config.services, weights: &old, seed: self.desired.config.node.seed };
        let after = Weighing { services: &config.services, weights: &new, seed: config.node.seed };
        Preview::of(&before, &after)
    }

    /// Flows of the last minute on slots that move: those of each backend, by the part of its slots that it loses.
    fn following(&self, planned: &PlannedService) -> Option<u64> {
        let service = self.desired.service(&planned.name)?;
        let counters = self.kernel.counters().ok()?;
        let since = &self.kernel.programmed.get(&planned.name)?.changed;
        let mut flows = 0.0;
        for backend in planned.backends.iter().filter(|backend| backend.slots_before > 0) {
            let Some(there) = service.backends.iter().find(|there| there.name == backend.name) else { continue };
            let Some(place) = self.kernel.allocations.backends.get(&service.id_of(there)) else { continue };
            let new: u64 = self.watch.observer.since(since, &counters, &[place.index]).iter().sum();
            flows += new as f64 * f64::from(backend.slots_leaving) / f64::from(backend.slots_before);
        }
        Some(flows.round() as u64)
    }

    /// What is left of each weight of a config, as far as that is known now; who is new is taken to be up.
    pub(crate) fn left(&self, config: &Config) -> Vec<Vec<u32>> {
        config.services.iter().map(|service| self.left_of(service)).collect()
    }

    /// The same of one service.
    pub(crate) fn left_of(&self, service: &Service) -> Vec<u32> {
        let now = self.desired.service(&service.name);
        let by_name: HashMap<&BackendName, &Backend> =
            now.iter().flat_map(|now| &now.backends).map(|backend| (&backend.name, backend)).collect();
        let of = |backend: &Backend| {
            let before = by_name.get(&backend.name).copied().filter(|other| other.address == backend.address);
            // A command's weight ends where the file's becomes another.
            let set = self
                .desired
                .overrides
                .get(&service.id_of(backend))
                .filter(|set| set.file_weight == backend.weight.get());
            let weight = set.and_then(|set| set.weight).and_then(Weight::new).unwrap_or(backend.weight);
            let takes = |old: &Backend| {
                let effective = self.effective(service, old);
                !effective.weight.is_zero() || self.desired.weight(service, old).is_zero()
            };
            let drained = self.desired.overrides.get(&service.id_of(backend)).is_some_and(|set| set.drained);
            if drained || !before.is_none_or(takes) { 0 } else { weight.get() }
        };
        service.backends.iter().map(of).collect()
    }
}
