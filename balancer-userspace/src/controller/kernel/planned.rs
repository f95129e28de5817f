//! What the kernel should hold for a service, with the places that it has and what the kernel has of it now.

use anyhow::{Context, Result};
use balancer_common::layout::{Former, ServiceEntry, flags};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::placement::Placement;
use crate::model::{Node, Service, Weight};
use crate::neighbor::NextHop;
use crate::plan::{Numbering, Placed, ServicePlan, keeps_flows, plan_service};

/// How a backend stands when its service is planned.
pub(crate) struct Fact {
    pub(crate) weight: Weight,
    pub(crate) next_hop: Option<NextHop>,
    /// Its established flows are given up.
    pub(crate) given_up: bool,
}

impl Kernel {
    /// The entry that the kernel has for a service of this number.
    pub(crate) fn entry_before(&self, service: &Service, number: u16) -> Option<ServiceEntry> {
        if let Some(programmed) = self.programmed.get(&service.name) {
            return Some(programmed.plan.entry);
        }
        self.image.services().find(|entry| entry.number == number)
    }

    /// With another seed, affinity or table size flows have other slots: the table goes to the other place, and the one
    /// that is there becomes the former.
    ///
    /// Where a former mapping is in use already it stays the former: every flow that began since is in the flow table, or
    /// goes to the backend that the former mapping gives it. So the way back to it, or on to a third, is always open.
    pub(crate) fn follow_mapping(
        &self,
        service: &Service,
        plan: &mut ServicePlan,
        before: &ServiceEntry,
        given: &mut Placement,
    ) -> Result<()> {
        if plan.same_mapping(before) {
            return Ok(());
        }
        let kept = before.has(flags::FORMER) && plan.keeps;
        let former = if kept {
            let reading = || format!("reading the former mapping of {}", service.name);
            self.plane.former(before.number).with_context(reading)?
        } else {
            let (keys, port_mask) = (before.keys, before.port_mask);
            Former { keys, table: before.table, table_size: before.table_size, port_mask, since: 0 }
        };
        let returns = kept && plan.is_mapped_as(&former);
        // Two places take turns; of three mappings the one in the middle has no flows but those in the flow table.
        let place = if returns { former.table } else { former.table ^ 1 };
        plan.remap(place, before.era.wrapping_add(1));
        if returns {
            given.returning.push(place);
        }
        if plan.keeps {
            given.former.push((before.number, Former { since: self.plane.clock(), ..former }));
        }
        if before.table != place && (returns || !plan.keeps) {
            given.freed_tables.push(before.table);
        }
        Ok(())
    }

    /// Backends that can't be reached at the moment, and those that leave, keep the entry they have: their flows go on as
    /// soon as the way is there again.
    pub(crate) fn keep_entries(&self, service: &Service, plan: &mut ServicePlan, placed: &[Placed]) {
        let unreached = placed.iter().filter(|place| place.next_hop.is_none()).map(|place| place.index);
        let left = self.allocations.leaving.iter().filter(|left| left.id.service == service.name);
        for index in unreached.chain(left.map(|left| left.allocated.index)) {
            if let Some(entry) = self.image.backends.get(&index) {
                plan.backends.push((index, *entry));
            }
        }
    }

    /// What the kernel should hold for a service whose backends stand as `facts` says, in their order. Gives places to those
    /// that have none.
    pub(crate) fn plan(
        &mut self,
        service: &Service,
        facts: Vec<Fact>,
        node: &Node,
        given: &mut Placement,
    ) -> Result<ServicePlan> {
        for (id, old) in self.absent_backends(service) {
            given.remember(&self.allocations, &self.pools);
            self.allocations.backends.remove(&id);
            self.allocations.passed.remove(&id);
            self.leave(service, &id, old, given);
        }
        let mut placed = Vec::with_capacity(service.backends.len());
        for (backend, Fact { weight, next_hop, given_up }) in service.backends.iter().zip(facts) {
            let index = self.place_backend(service, backend, node, given)?;
            placed.push(Placed { index, weight, next_hop, dead: given_up });
        }
        let number = self.place_service(service, given)?;
        let before = self.entry_before(service, number);
        let numbering = Numbering {
            number,
            table: before.map_or(u32::from(number) * 2, |entry| entry.table),
            era: before.map_or(0, |entry| entry.era),
            acl: before.map_or(0, |entry| entry.acl),
            former: before.is_some_and(|entry| entry.has(flags::FORMER)) && keeps_flows(service),
        };
        let mut plan = plan_service(service, &placed, &numbering, node);
        if let Some(before) = before {
            self.follow_mapping(service, &mut plan, &before, given)?;
            if before.has(flags::FORMER) && !plan.entry.has(flags::FORMER) && plan.entry.table == before.table {
                given.freed_tables.push(before.table ^ 1);
            }
        }
        self.keep_entries(service, &mut plan, &placed);
        let same_lists = self.programmed.get(&service.name).map(|p| *p.plan.guard == service.guard);
        if same_lists == Some(false) || (same_lists.is_none() && plan.acl().next().is_some()) {
            plan.set_acl(plan.entry.acl.wrapping_add(1));
        }
        Ok(plan)
    }
}
