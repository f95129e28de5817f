//! Everything that the controller knows, by room: what should run, what the world says, what runs, and whether they agree.

use crate::controller::desired::Desired;
use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::identity;
use crate::controller::observed::Observed;
use crate::controller::published::Publishing;
use crate::controller::unwritten::Unwritten;
use crate::controller::watch::Agreement;
use crate::health::removal::Fate;
use crate::model::{Backend, Gate, Service};
use crate::neighbor::{Reachability, Wanted};
use crate::plan::{Effective, Standing, effective};
use crate::state::{Allocated, StateDir};

pub(crate) struct State {
    pub(crate) desired: Desired,
    pub(crate) observed: Observed,
    pub(crate) kernel: Kernel,
    pub(crate) watch: Agreement,
    pub(crate) store: StateDir,
    /// What is in force and not yet on disk.
    pub(crate) unwritten: Unwritten,
    /// What readers see who don't wait.
    pub(crate) publishing: Publishing,
}

impl State {
    /// Whether the kernel has the backend as it is configured now.
    fn has_entry(&self, service: &Service, backend: &Backend) -> bool {
        let id = service.id_of(backend);
        let allocated = self.kernel.allocations.backends.get(&id);
        let is_same = |there: &Allocated| there.identity == identity(service, backend, &self.desired.config.node);
        allocated.is_some_and(is_same) && self.kernel.entry_of(&id).is_some()
    }

    pub(crate) fn effective(&self, service: &Service, backend: &Backend) -> Effective {
        let whole = effective(&self.standing(service, backend));
        Effective { weight: self.desired.ramped(&service.id_of(backend), whole.weight), ..whole }
    }

    /// Everything that decides about a backend's weight.
    pub(crate) fn standing(&self, service: &Service, backend: &Backend) -> Standing {
        let id = service.id_of(backend);
        let reachability =
            self.observed.reachable.get(&Wanted::of(service, backend)).cloned().unwrap_or(Reachability::Pending);
        let fate = match self.observed.fate(service, backend) {
            // What the kernel can't send packets to keeps no slots, or they would be dropped.
            Fate::Kept(_) if !reachability.is_resolved() && !self.has_entry(service, backend) => Fate::Own,
            fate => fate,
        };
        Standing {
            weight: self.desired.weight(service, backend),
            drained: self.desired.overrides.get(&id).is_some_and(|set| set.drained),
            health: self.observed.health(service, &id),
            reachability,
            held_back: self.held_back(service, backend),
            fate,
        }
    }

    /// Why the backend has to wait; nothing where it is past the gate.
    pub(crate) fn held_back(&self, service: &Service, backend: &Backend) -> Option<String> {
        let id = service.id_of(backend);
        let is_past = service.gate == Gate::Health || self.kernel.allocations.passed.get(&id) == Some(&backend.address);
        let found = || self.observed.waiting.get(&id).map_or("not examined yet", String::as_str);
        (!is_past).then(|| format!("waiting for doctor: {}", found()))
    }
}
