//! Everything that the controller knows, by room: what should run, what the world says, what runs, and whether they agree.

use std::collections::BTreeSet;

use balancer_common::layout::BackendEntry;
use balancer_common::slot::BackendIndex;

use crate::controller::desired::Desired;
use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::identity;
use crate::controller::observed::Observed;
use crate::controller::unwritten::Unwritten;
use crate::controller::watch::Agreement;
use crate::health::Health;
use crate::health::removal::Fate;
use crate::model::{Backend, BackendId, CheckKind, ForwardMode, Service, ServiceName, Weight};
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
}

pub(crate) fn wanted(service: &Service, backend: &Backend) -> Wanted {
    Wanted { address: backend.address, on_link: service.forward == ForwardMode::L2 }
}

pub(crate) fn id(service: &Service, backend: &Backend) -> BackendId {
    BackendId { service: service.name.clone(), backend: backend.name.clone() }
}

impl Desired {
    pub(crate) fn all_services(&self) -> BTreeSet<ServiceName> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }

    pub(crate) fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.config.services.by_name(name)
    }

    /// The weight in force: set by command, or the file's.
    pub(crate) fn weight(&self, service: &Service, backend: &Backend) -> Weight {
        let set = self.overrides.get(&id(service, backend)).and_then(|set| set.weight);
        set.and_then(Weight::new).unwrap_or(backend.weight)
    }
}

impl Kernel {
    /// Where the kernel has a backend.
    pub(crate) fn index_of(&self, id: &BackendId) -> Option<BackendIndex> {
        self.allocations.backends.get(id).map(|allocated| allocated.index)
    }

    /// What the kernel has of it.
    pub(crate) fn entry_of(&self, id: &BackendId) -> Option<&BackendEntry> {
        self.image.backends.get(&self.index_of(id)?)
    }
}

impl Observed {
    pub(crate) fn health(&self, service: &Service, id: &BackendId) -> Health {
        match service.health.kind {
            CheckKind::None => Health::Up,
            _ => self.checked.get(id).map_or(Health::Unknown, |checked| checked.health),
        }
    }
}

impl State {
    /// Whether the kernel has the backend as it is configured now.
    fn has_entry(&self, service: &Service, backend: &Backend) -> bool {
        let id = id(service, backend);
        let allocated = self.kernel.allocations.backends.get(&id);
        let is_same = |there: &Allocated| there.identity == identity(service, backend, &self.desired.config.node);
        allocated.is_some_and(is_same) && self.kernel.entry_of(&id).is_some()
    }

    pub(crate) fn effective(&self, service: &Service, backend: &Backend) -> Effective {
        let whole = effective(&self.standing(service, backend));
        Effective { weight: self.desired.ramped(&id(service, backend), whole.weight), ..whole }
    }

    /// Everything that decides about a backend's weight.
    pub(crate) fn standing(&self, service: &Service, backend: &Backend) -> Standing {
        let id = id(service, backend);
        let reachability =
            self.observed.reachable.get(&wanted(service, backend)).cloned().unwrap_or(Reachability::Pending);
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
}
