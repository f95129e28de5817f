//! Who gets which place in the kernel's maps, and when it is free again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use balancer_common::layout::Former;
use balancer_common::slot::BackendIndex;

use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::{Pools, identity, index};
use crate::controller::state::{State, id};
use crate::dataplane::Counters;
use crate::model::{Backend, BackendId, Gate, Service, ServiceName};
use crate::plan::keeps_flows;
use crate::state::{Allocated, Allocations, Leaving};

impl Kernel {
    /// A backend's index is free at once, or when the flows that it has are gone.
    pub(crate) fn leave(&mut self, service: &Service, id: &BackendId, old: Allocated, given: &mut Placement) {
        given.changed = true;
        let counted = given.counters.get(&old.index).copied().unwrap_or_default();
        given.bases.insert(id.clone(), old.base + counted);
        let has_flows = self.image.backends.contains_key(&old.index) && self.programmed.contains_key(&service.name);
        if keeps_flows(service) && has_flows {
            self.allocations.leaving.push(Leaving { id: id.clone(), allocated: old, since: self.plane.clock() });
        } else {
            given.freed.push(old.index);
        }
    }

    pub(crate) fn place_service(&mut self, service: &Service, given: &mut Placement) -> Result<u16> {
        if let Some(number) = self.allocations.services.get(&service.name) {
            return Ok(*number);
        }
        given.remember(self);
        let number = self.pools.services.take().context("no place is left for a service; raise `limits.services`")?;
        let number = u16::try_from(number)?;
        given.numbered.push(number);
        self.allocations.services.insert(service.name.clone(), number);
        Ok(number)
    }

    /// Backends of the service that the config has no more.
    pub(crate) fn absent_backends(&self, service: &Service) -> Vec<(BackendId, Allocated)> {
        let present: BTreeSet<_> = service.backends.iter().map(|backend| &backend.name).collect();
        let of_service = self.allocations.of_service(&service.name);
        let absent = of_service.filter(|(id, _)| !present.contains(&id.backend));
        absent.map(|(id, allocated)| (id.clone(), allocated.clone())).collect()
    }
}

impl State {
    /// The index of a backend, a new one where it has none or became another to the kernel.
    pub(crate) fn place_backend(&mut self, service: &Service, backend: &Backend, given: &mut Placement) -> Result<u16> {
        let id = id(service, backend);
        if service.gate == Gate::Health && self.kernel.allocations.passed.get(&id) != Some(&backend.address) {
            given.remember(&self.kernel);
            // A gate that is set later is for those who come later.
            self.kernel.allocations.passed.insert(id.clone(), backend.address);
            given.changed = true;
        }
        let identity = identity(service, backend, &self.desired.config.node);
        let before = self.kernel.allocations.backends.get(&id).cloned();
        if let Some(allocated) = before.as_ref().filter(|allocated| allocated.identity == identity) {
            return Ok(allocated.index);
        }
        given.remember(&self.kernel);
        if let Some(old) = before {
            self.kernel.leave(service, &id, old, given);
        }
        // One that left and comes back is the same to its flows.
        let back = |left: &Leaving| left.id == id && left.allocated.identity == identity;
        if let Some(place) = self.kernel.allocations.leaving.iter().position(back) {
            let allocated = self.kernel.allocations.leaving.remove(place).allocated;
            given.changed = true;
            self.kernel.allocations.backends.insert(id, allocated.clone());
            return Ok(allocated.index);
        }
        let base = given.bases.get(&id).copied().unwrap_or_default();
        let place =
            self.kernel.pools.backends.take().context("no place is left for a backend; raise `limits.backends`")?;
        let allocated = Allocated { index: index(place), base, identity };
        given.fresh.push(allocated.index);
        self.kernel.allocations.backends.insert(id, allocated);
        Ok(index(place))
    }

    /// Gives back numbers and places of services that are in the config no more, and says which these are. `all`: places
    /// without a service too.
    pub(crate) fn release_absent(&mut self, all: bool, given: &mut Placement) -> Vec<ServiceName> {
        let names = &self.desired.config.services;
        let gone = |name: &ServiceName| names.by_name(name).is_none();
        let placed = self.kernel.allocations.services.iter();
        let absent: Vec<(ServiceName, u16)> =
            placed.filter(|(name, _)| gone(name)).map(|(name, number)| (name.clone(), *number)).collect();
        if absent.is_empty() && !all {
            return Vec::new();
        }
        given.remember(&self.kernel);
        for (name, number) in &absent {
            self.kernel.allocations.services.remove(name);
            given.freed_numbers.push(*number);
            given.freed_tables.extend([u32::from(*number) * 2, u32::from(*number) * 2 + 1]);
        }
        self.kernel.allocations.backends.retain(|id, allocated| {
            let keep = !gone(&id.service);
            if !keep {
                given.freed.push(allocated.index);
            }
            keep
        });
        self.kernel.allocations.passed.retain(|id, _| !gone(&id.service));
        self.kernel.allocations.leaving.retain(|left| {
            let keep = !gone(&left.id.service);
            if !keep {
                given.freed.push(left.allocated.index);
            }
            keep
        });
        absent.into_iter().map(|(name, _)| name).collect()
    }
}

/// Places given and taken back in one step.
#[derive(Default)]
pub(crate) struct Placement {
    /// Of the backends of the services that the step touches.
    pub(crate) counters: BTreeMap<BackendIndex, Counters>,
    pub(crate) now: u32,
    /// What backends that lose their index were sent.
    pub(crate) bases: HashMap<BackendId, Counters>,
    pub(crate) fresh: Vec<u16>,
    pub(crate) freed: Vec<u16>,
    pub(crate) numbered: Vec<u16>,
    pub(crate) freed_numbers: Vec<u16>,
    pub(crate) freed_tables: Vec<u32>,
    pub(crate) former: Vec<(u16, Former)>,
    /// Places that hold the table of a mapping that comes back.
    pub(crate) returning: Vec<u32>,
    /// Who has which place is another than before, though no place is new.
    pub(crate) changed: bool,
    /// Who had which place before the step; only where it changed any.
    pub(crate) before: Option<(Allocations, Pools)>,
}

impl Placement {
    /// Call it before a place changes hands: where the step fails, everybody has the place from before.
    pub(crate) fn remember(&mut self, kernel: &Kernel) {
        self.before.get_or_insert_with(|| (kernel.allocations.clone(), kernel.pools.clone()));
    }

    /// Whether flows of the service of this number get other slots in this step.
    pub(crate) fn begins_former(&self, number: u16) -> bool {
        self.former.iter().any(|(of, _)| *of == number)
    }

    pub(crate) fn any(&self) -> bool {
        self.changed
            || !self.fresh.is_empty()
            || !self.freed.is_empty()
            || !self.numbered.is_empty()
            || !self.freed_numbers.is_empty()
    }
}
