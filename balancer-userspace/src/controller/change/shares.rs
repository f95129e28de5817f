//! The shares of backends before and after a change.

use std::collections::BTreeMap;

use crate::control::api::{ServiceShares, ShareChange};
use crate::controller::state::State;
use crate::model::{Backend, BackendName, ServiceName};

impl State {
    /// The share of each backend in the table that is in the kernel.
    pub(crate) fn shares(&self, name: &ServiceName) -> BTreeMap<BackendName, Option<f64>> {
        let (Some(service), Some(programmed)) = (self.desired.service(name), self.kernel.programmed.get(name)) else {
            return BTreeMap::new();
        };
        let share = |backend: &Backend| {
            let allocated = self.kernel.allocations.backends.get(&service.id_of(backend))?;
            programmed.counts.share(allocated.index)
        };
        service.backends.iter().map(|backend| (backend.name.clone(), share(backend))).collect()
    }

    /// The shares of a service's backends before and after a change.
    pub(crate) fn share_changes(
        &self,
        name: &ServiceName,
        before: &BTreeMap<BackendName, Option<f64>>,
        after: &BTreeMap<BackendName, Option<f64>>,
    ) -> Vec<ShareChange> {
        let service = self.desired.service(name);
        service
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, backend)| {
                let effective = self.effective(service, backend);
                ShareChange {
                    name: backend.name.clone(),
                    weight: self.desired.weight(service, backend).get(),
                    effective_weight: effective.weight.get(),
                    state: effective.state,
                    before: before.get(&backend.name).copied().flatten(),
                    after: after.get(&backend.name).copied().flatten(),
                }
            })
            .collect()
    }

    /// The shares of all backends in the tables that are in the kernel.
    pub(crate) fn all_shares(&self) -> SharesBefore {
        self.kernel.programmed.keys().map(|name| (name.clone(), self.shares(name))).collect()
    }

    /// What became of them, of services where any is another.
    pub(crate) fn shares_since(&self, before: &SharesBefore) -> Vec<ServiceShares> {
        let of = |name: &ServiceName| {
            let empty = BTreeMap::new();
            let (before, after) = (before.get(name).unwrap_or(&empty), self.shares(name));
            let backends: Vec<ShareChange> = self.share_changes(name, before, &after);
            let differ = backends.iter().any(|backend| backend.before != backend.after);
            differ.then(|| ServiceShares { service: name.clone(), backends })
        };
        self.desired.config.services.iter().filter_map(|service| of(&service.name)).collect()
    }
}

pub(crate) type SharesBefore = BTreeMap<ServiceName, BTreeMap<BackendName, Option<f64>>>;
