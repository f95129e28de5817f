//! Who gets which place in the kernel's maps, and when it is free again.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::{identity, index};
use crate::controller::kernel::placement::Placement;
use crate::model::{Backend, BackendId, Gate, Node, Service, ServiceName, Services};
use crate::plan::keeps_flows;
use crate::state::{Allocated, Leaving};

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
        given.remember(&self.allocations, &self.pools);
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

    /// The index of a backend, a new one where it has none or became another to the kernel.
    pub(crate) fn place_backend(
        &mut self,
        service: &Service,
        backend: &Backend,
        node: &Node,
        given: &mut Placement,
    ) -> Result<u16> {
        let id = service.id_of(backend);
        if service.gate == Gate::Health && self.allocations.passed.get(&id) != Some(&backend.address) {
            given.remember(&self.allocations, &self.pools);
            // A gate that is set later is for those who come later.
            self.allocations.passed.insert(id.clone(), backend.address);
            given.changed = true;
        }
        let identity = identity(service, backend, node);
        let before = self.allocations.backends.get(&id).cloned();
        if let Some(allocated) = before.as_ref().filter(|allocated| allocated.identity == identity) {
            return Ok(allocated.index);
        }
        given.remember(&self.allocations, &self.pools);
        if let Some(old) = before {
            self.leave(service, &id, old, given);
        }
        // One that left and comes back is the same to its flows.
        let back = |left: &Leaving| left.id == id && left.allocated.identity == identity;
        if let Some(place) = self.allocations.leaving.iter().position(back) {
            let allocated = self.allocations.leaving.remove(place).allocated;
            given.changed = true;
            self.allocations.backends.insert(id, allocated.clone());
            return Ok(allocated.index);
        }
        let base = given.bases.get(&id).copied().unwrap_or_default();
        let place = self.pools.backends.take().context("no place is left for a backend; raise `limits.backends`")?;
        let allocated = Allocated { index: index(place), base, identity };
        given.fresh.push(allocated.index);
        self.allocations.backends.insert(id, allocated);
        Ok(index(place))
    }

    /// Gives back numbers and places of services that are in the config no more, and says which these are. `all`: places
    /// without a service too.
    pub(crate) fn release_absent(&mut self, wanted: &Services, all: bool, given: &mut Placement) -> Vec<ServiceName> {
        let gone = |name: &ServiceName| wanted.by_name(name).is_none();
        let placed = self.allocations.services.iter();
        let absent: Vec<(ServiceName, u16)> =
            placed.filter(|(name, _)| gone(name)).map(|(name, number)| (name.clone(), *number)).collect();
        if absent.is_empty() && !all {
            return Vec::new();
        }
        given.remember(&self.allocations, &self.pools);
        for (name, number) in &absent {
            self.allocations.services.remove(name);
            given.freed_numbers.push(*number);
            given.freed_tables.extend([u32::from(*number) * 2, u32::from(*number) * 2 + 1]);
        }
        self.allocations.backends.retain(|id, allocated| {
            let keep = !gone(&id.service);
            if !keep {
                given.freed.push(allocated.index);
            }
            keep
        });
        self.allocations.passed.retain(|id, _| !gone(&id.service));
        self.allocations.leaving.retain(|left| {
            let keep = !gone(&left.id.service);
            if !keep {
                given.freed.push(left.allocated.index);
            }
            keep
        });
        absent.into_iter().map(|(name, _)| name).collect()
    }
}
