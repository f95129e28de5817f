//! Who leaves the table and who is kept, as far as that is decided.

use std::time::Instant;

use crate::controller::observed::Observed;
use crate::health::Health;
use crate::health::removal::{Fate, Member};
use crate::model::{Backend, Protocol, Service};
use crate::neighbor::{NextHop, Reachability, Wanted};

impl Observed {
    /// What was decided of a backend beside the others of its service.
    pub(crate) fn fate(&self, service: &Service, backend: &Backend) -> Fate {
        let removals = self.removals.get(&service.name);
        removals.map_or(Fate::Own, |removals| removals.fate(&member(backend)).clone())
    }

    /// Takes for up who is kept: that is what is in force, also for the next controller.
    pub(crate) fn health_to_save(&self, id: &crate::model::BackendId, health: Health) -> Health {
        let kept = self.removals.get(&id.service).is_some_and(|removals| removals.keeps(&id.backend));
        if kept { Health::Up } else { health }
    }

    /// Whether the backend's established flows are given up. TCP flows of a server that was down for a moment go on there once
    /// it is back; UDP has no SYN, so that new flows would go to a server that is down as well. Where flows can't be
    /// remembered any longer, new ones need the place.
    pub(crate) fn gives_up(&self, service: &Service, backend: &Backend, is_short: bool, now: Instant) -> bool {
        let is_kept = matches!(self.fate(service, backend), Fate::Kept(_));
        let is_down = self.health(service, &service.id_of(backend)) == Health::Down && !is_kept;
        let quiet = service.connections.quiet;
        let removals = self.removals.get(&service.name);
        let long = || removals.is_none_or(|removals| removals.is_gone_for(&member(backend), quiet, now));
        is_down && (service.protocol == Protocol::Udp || is_short || long())
    }

    /// The way to a backend, with the MTU of the whole of it; none where there is no way now.
    pub(crate) fn next_hop(&self, service: &Service, backend: &Backend) -> Option<NextHop> {
        match self.reachable.get(&Wanted::of(service, backend)) {
            Some(Reachability::Resolved(next_hop)) => Some(self.paths.applied(next_hop, service, backend)),
            _ => None,
        }
    }
}

pub(crate) fn member(backend: &Backend) -> Member {
    (backend.name.clone(), backend.address)
}
