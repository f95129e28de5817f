//! Closing what changes have opened: slots without flows from before, flow tables, former mappings, and the places of
//! backends that left.

use std::collections::BTreeSet;

use anyhow::Result;
use balancer_common::layout::{FlowKey, Former, flags};
use balancer_common::slot::{BackendIndex, NO_BACKEND, Slot};

use crate::controller::kernel::{Kernel, KernelService};
use crate::dataplane::{Changes, TableCounts};
use crate::model::{Service, ServiceName};
use crate::plan::{Keeping, Patience, closing, former_is_over};

/// Units of [`balancer_common::clock`] between two looks through a flow table.
const SWEEP: u32 = 4;

impl Kernel {
    /// Backends that left so long ago that their flows have had their time.
    fn late_leavers(&self, name: &ServiceName, patience: &Patience, now: u32) -> BTreeSet<BackendIndex> {
        let of_service = self.allocations.leaving.iter().filter(|left| left.id.service == *name);
        let late = of_service.filter(|left| balancer_common::clock::since(now, left.since) >= patience.deadline);
        late.map(|left| left.allocated.index).collect()
    }

    /// In the former mapping the slots of dead backends become nobody's: their flows begin anew with the owner.
    fn bury(&mut self, former: &Former, dead: &BTreeSet<BackendIndex>) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        let slots = self.plane.read_table(former.table, former.table_size)?;
        let of_dead = slots.iter().enumerate().filter(|(_, slot)| dead.contains(&slot.settled()));
        let buried: Vec<(u32, Slot)> = of_dead.map(|(place, _)| (place as u32, Slot::closed(NO_BACKEND))).collect();
        self.plane.close_slots(former.table, &buried)
    }

    /// Flows of the former mapping are gone, or had their time.
    fn end_former(&mut self, name: &ServiceName) -> Result<()> {
        let Some(programmed) = self.programmed.get(name) else { return Ok(()) };
        let mut plan = programmed.plan.clone();
        plan.end_former();
        let mut wanted = self.image.clone();
        plan.replace_entry(&mut wanted);
        let mut changes = self.image.changes_to(&wanted);
        changes.remove_tables.push(plan.entry.table ^ 1);
        changes.former.push((plan.entry.number, Former::default()));
        self.plane.apply(changes)?;
        self.image = wanted;
        if let Some(programmed) = self.programmed.get_mut(name) {
            programmed.plan = plan;
        }
        Ok(())
    }

    /// Takes out of the flow table what need not be remembered any longer. After slots closed at once: a flow that begins
    /// in a closed slot must not find an old entry once the slot opens again.
    fn sweep(
        &mut self,
        name: &ServiceName,
        keeping: &Keeping<'_>,
        at_once: bool,
        alive: &dyn Fn(BackendIndex) -> bool,
    ) -> Result<()> {
        let Some(programmed) = self.programmed.get_mut(name) else { return Ok(()) };
        let due = balancer_common::clock::since(keeping.now, programmed.tracked.sweep_at) > 0
            || programmed.tracked.sweep_at == 0;
        let number = programmed.plan.entry.number;
        if !(at_once || due) || !self.plane.has_flow_table(number) {
            return Ok(());
        }
        let flows = self.plane.flows(number)?;
        let (kept, gone): (Vec<_>, Vec<_>) = flows.into_iter().partition(|(_, flow)| keeping.keeps(flow, alive));
        let keys: Vec<FlowKey> = gone.iter().map(|(key, _)| *key).collect();
        self.plane.forget_flows(number, &keys)?;
        programmed.tracked.flows = kept.len() as u64;
        programmed.tracked.owners = kept.iter().map(|(_, flow)| flow.backend()).collect();
        programmed.tracked.sweep_at = keeping.now.wrapping_add(SWEEP);
        Ok(())
    }

    /// Services of which anything is open.
    pub(crate) fn unsettled(&self) -> Vec<ServiceName> {
        let left: BTreeSet<&ServiceName> = self.allocations.leaving.iter().map(|left| &left.id.service).collect();
        let open = |(name, programmed): (&ServiceName, &KernelService)| {
            let has_left = left.contains(name);
            let plan = &programmed.plan;
            let busy = programmed.counts.open > 0 || plan.entry.has(flags::FORMER) || plan.tracks_all() || has_left;
            busy.then(|| name.clone())
        };
        self.programmed.iter().filter_map(open).collect()
    }

    /// New flows of open slots are remembered: a table of them that fills needs the slots of the dead closed.
    pub(crate) fn is_short_of_flows(&self, service: &Service) -> bool {
        let flows = self.programmed.get(&service.name).map_or(0, |programmed| programmed.tracked.flows);
        flows > u64::from(service.connections.flow_table / 2)
    }

    /// Closes what of a service can be closed by `now`; flows of `dead` backends are given up. Answers whether places became
    /// free by it.
    pub(crate) fn settle(&mut self, service: &Service, dead: &BTreeSet<BackendIndex>, now: u32) -> Result<bool> {
        let name = &service.name;
        let Some(programmed) = self.programmed.get(name) else { return Ok(false) };
        let patience = Patience::of(&service.connections);
        let entry = programmed.plan.entry;
        let number = entry.number;
        let mut slots = self.plane.written_table(entry.table, || programmed.plan.settled_slots())?;
        let activity = self.plane.activity(number);
        let late = self.late_leavers(name, &patience, now);
        let mut closed = closing(&slots, &activity, now, &patience);
        closed.extend(without_settled(&slots, &late.union(dead).copied().collect()));
        for (place, slot) in &closed {
            if let Some(there) = slots.get_mut(*place as usize) {
                *there = *slot;
            }
        }
        if !closed.is_empty() {
            self.plane.close_slots(entry.table, &closed)?;
        }
        let mut former = entry.has(flags::FORMER);
        if former {
            let before = self.plane.former(number)?;
            // A mapping that came back has one table: its step has left no dead backend there.
            if before.table != entry.table {
                self.bury(&before, dead)?;
            }
            if former_is_over(&activity, before.since, now, &patience) {
                self.end_former(name)?;
                former = false;
            }
        }
        let keeping =
            Keeping { slots: &slots, era: entry.era, former, all: entry.has(flags::TRACK_ALL), patience, now };
        self.sweep(name, &keeping, !closed.is_empty(), &|index| !dead.contains(&index) && !late.contains(&index))?;
        let counts = TableCounts::of(&slots);
        let idle = counts.open == 0 && !former;
        if let Some(programmed) = self.programmed.get_mut(name) {
            programmed.counts = counts;
            if idle && !programmed.plan.tracks_all() {
                programmed.tracked.flows = 0;
                programmed.tracked.owners.clear();
            }
        }
        if idle {
            self.plane.remove_tracks(number, !keeping.all);
        }
        self.free_leavers(name)
    }

    /// Gives back the places of backends that left, once nothing names them. Answers whether there were any.
    fn free_leavers(&mut self, name: &ServiceName) -> Result<bool> {
        let Some(programmed) = self.programmed.get_mut(name) else { return Ok(false) };
        let (counts, owners) = (&programmed.counts, &programmed.tracked.owners);
        let former = programmed.plan.entry.has(flags::FORMER);
        let named = |index: &BackendIndex| {
            former || counts.settled.contains_key(index) || counts.owned.contains_key(index) || owners.contains(index)
        };
        let mut freed = Vec::new();
        self.allocations.leaving.retain(|left| {
            let keep = left.id.service != *name || named(&left.allocated.index);
            if !keep {
                log::info!("{} has left: no established flow is known any longer", left.id);
                freed.push(left.allocated.index);
            }
            keep
        });
        if freed.is_empty() {
            return Ok(false);
        }
        programmed.plan.backends.retain(|(index, _)| !freed.contains(index));
        self.image.backends.retain(|index, _| !freed.contains(index));
        // Tables that named them are gone with the last packet that read them by now.
        self.plane.apply(Changes { clear_backends: freed.clone(), ..Changes::default() })?;
        freed.iter().for_each(|index| self.pools.backends.give_back(u32::from(*index)));
        Ok(true)
    }
}

/// Open slots without their settled owner, where that is one of `gone`. They stay open: younger flows are in the flow
/// table.
fn without_settled(slots: &[Slot], gone: &BTreeSet<BackendIndex>) -> Vec<(u32, Slot)> {
    if gone.is_empty() {
        return Vec::new();
    }
    let of_gone = slots.iter().enumerate().filter(|(_, slot)| slot.is_open() && gone.contains(&slot.settled()));
    of_gone.map(|(place, slot)| (place as u32, Slot::open(slot.owner(), slot.owner()))).collect()
}
