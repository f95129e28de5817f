//! Who leaves the table and who is kept: evidence of every backend of a service, brought to what decides about them all.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use balancer_common::slot::BackendIndex;

use crate::control::api::BackendState;
use crate::controller::observed::removals::member;
use crate::controller::state::State;
use crate::health::removal::{Evidence, Times, Verdict};
use crate::model::{Backend, Service, ServiceName};
use crate::plan::alone;

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
            || self.observed.checked.get(&service.id_of(backend)).is_some_and(|checked| checked.blind.is_some());
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

    /// Backends of the service whose established flows are given up, by index.
    pub(crate) fn given_up(&self, service: &Service, is_short: bool) -> BTreeSet<BackendIndex> {
        let now = Instant::now();
        let gone = service.backends.iter().filter(|backend| self.observed.gives_up(service, backend, is_short, now));
        gone.filter_map(|backend| self.kernel.index_of(&service.id_of(backend))).collect()
    }
}
