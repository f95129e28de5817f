//! What is checked, and what is known of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::controller::observed::HealthState;
use crate::controller::state::State;
use crate::health::{Health, Target};
use crate::model::{Backend, BackendId, CheckKind, Service};
use crate::neighbor::{Reachability, Wanted};
use crate::state::Healths;

impl State {
    /// Forgets the health of backends that went or now are somewhere else: what comes back is unknown until it is probed.
    /// Another port of the check is no other server.
    pub(crate) fn forget_strangers(&mut self) {
        let present: HashMap<BackendId, SocketAddr> = self
            .desired
            .pairs()
            .map(|(service, backend)| (service.id_of(backend), probed_at(service, backend)))
            .collect();
        self.observed
            .checked
            .retain(|id, checked| present.get(id).is_some_and(|at| checked.at.is_none_or(|was| was.ip() == at.ip())));
        for (id, at) in present {
            self.observed.checked.entry(id).or_default().at = Some(at);
        }
    }

    /// What is to be checked, with the health known so far.
    pub(crate) fn targets(&self) -> Vec<(Target, Health)> {
        let checked = self.desired.pairs().filter(|(service, _)| service.health.kind != CheckKind::None);
        let target = |(service, backend): (&Service, &Backend)| {
            let id = service.id_of(backend);
            let address = probed_at(service, backend);
            let health = self.observed.checked.get(&id).map_or(Health::Unknown, |checked| checked.health);
            (Target { id, address, check: service.health.clone() }, health)
        };
        checked.map(target).collect()
    }

    /// Whether every backend was probed and looked up at least once.
    pub(crate) fn knows_enough(&self) -> bool {
        self.desired.pairs().all(|(service, backend)| {
            let probed = service.health.kind == CheckKind::None
                || self.observed.checked.get(&service.id_of(backend)).is_some_and(|checked| checked.took.is_some());
            // The first answer is often that the neighbour is still being resolved.
            let looked_up = !matches!(
                self.observed.reachable.get(&Wanted::of(service, backend)),
                None | Some(Reachability::Pending | Reachability::NoNeighbor { .. })
            );
            probed && looked_up
        })
    }

    pub(crate) fn save_healths(&self) {
        let known =
            |(id, checked): (&BackendId, &HealthState)| (id.clone(), self.observed.health_to_save(id, checked.health));
        let healths: Healths = self.observed.checked.iter().map(known).collect();
        self.store.keep_healths(&healths);
    }
}

/// Where the backend's health is asked for.
fn probed_at(service: &Service, backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address, service.health.port.unwrap_or(backend.port))
}
