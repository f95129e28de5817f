//! Who leaves the table and who is kept: evidence of every backend of a service, brought to what decides about them all.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use balancer_common::slot::BackendIndex;

use crate::control::api::BackendState;
use crate::controller::observed::Observed;
use crate::controller::state::{State, id};
use crate::health::Health;
use crate::health::removal::{Evidence, Fate, Member, Times, Verdict};
use crate::model::{Backend, Protocol, Service, ServiceName};
use crate::plan::alone;

fn member(backend: &Backend) -> Member {
    (backend.name.clone(), backend.address)
}

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
}

impl State {
    /// Decides anew about the backends of these services.
    pub(crate) fn weigh_removals<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a ServiceName>,
    ) -> BTreeSet<ServiceName> {
        let now = Instant::now();
        let mut changed = BTreeSet::new();
        for name in names {
            let Some(service) = self.desired.service(name) else { continue };
            let evidence: Vec<Evidence> =
                service.backends.iter().map(|backend| self.evidence(service, backend)).collect();
            let (times, flows) = (Times::of(&service.health), self.watch.flows(name));
            if self.observed.removals.entry(name.clone()).or_default().judge(&evidence, flows, times, now) {
                changed.insert(name.clone());
            }
        }
        changed
    }

    /// Services about which time alone may have decided by now, and whose tables change by it.
    pub(crate) fn judge_waiting(&mut self) -> BTreeSet<ServiceName> {
        let waiting = self.observed.removals.iter().filter(|(_, removals)| removals.is_waiting());
        let waiting: Vec<ServiceName> = waiting.map(|(name, _)| name.clone()).collect();
        self.weigh_removals(&waiting)
    }

    /// Forgets what was decided of services that went.
    pub(crate) fn forget_removals(&mut self) {
        let there: HashSet<&ServiceName> = self.desired.config.services.iter().map(|service| &service.name).collect();
        self.observed.removals.retain(|name, _| there.contains(name));
    }

    fn evidence(&self, service: &Service, backend: &Backend) -> Evidence {
        let standing = self.standing(service, backend);
        let waits_at_gate = standing.held_back.is_some();
        let is_blind =
            || self.observed.checked.get(&id(service, backend)).is_some_and(|checked| checked.blind.is_some());
        let verdict = match alone(&standing).state {
            BackendState::Up if is_blind() => Verdict::Assumed,
            BackendState::Up => Verdict::Well,
            BackendState::Down => Verdict::Failing,
            BackendState::Unknown if !waits_at_gate => Verdict::NoEvidence,
            BackendState::Unknown | BackendState::Draining | BackendState::Disabled => Verdict::Out,
        };
        let weight = u64::from(standing.weight.get());
        Evidence { member: member(backend), verdict, weight, capacity: backend.capacity.new_flows }
    }

    /// Backends whose established flows are given up. TCP flows of a server that was down for a moment go on there once it
    /// is back; UDP has no SYN, so that new flows would go to a server that is down as well. Where flows can't be
    /// remembered any longer, new ones need the place.
    pub(crate) fn given_up(&self, service: &Service, is_short: bool) -> BTreeSet<BackendIndex> {
        let (now, quiet) = (Instant::now(), service.connections.quiet);
        let removals = self.observed.removals.get(&service.name);
        let is_gone = |backend: &&Backend| {
            let fate = self.observed.fate(service, backend);
            let down =
                self.observed.health(service, &id(service, backend)) == Health::Down && !matches!(fate, Fate::Kept(_));
            let long = || removals.is_none_or(|removals| removals.is_gone_for(&member(backend), quiet, now));
            down && (service.protocol == Protocol::Udp || is_short || long())
        };
        let gone = service.backends.iter().filter(is_gone);
        gone.filter_map(|backend| self.kernel.index_of(&id(service, backend))).collect()
    }
}
