//! What the maps should hold, and which tables are new.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use balancer_common::slot::{BackendIndex, Slot};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::build::in_parallel;
use crate::controller::kernel::drafts::{Draft, Drafts};
use crate::controller::kernel::placement::Placement;
use crate::dataplane::{Changes, Image, NewTable, Opened, TableState};
use crate::model::{ServiceName, Services};
use crate::plan::{ServicePlan, step};
use crate::service_manager;

/// What is known when tables are made.
pub(crate) struct Making<'a> {
    /// As they were read back; those that nobody wants are left in it.
    pub(crate) tables: &'a mut TableState,
    /// Every table is compared with what was read back.
    pub(crate) all: bool,
    pub(crate) given: &'a Placement,
    pub(crate) drafts: Drafts,
}

/// Tables to publish, by place.
#[derive(Default)]
pub(crate) struct NewTables {
    pub(crate) publish: Vec<(u32, NewTable)>,
    /// Services whose tables changed.
    pub(crate) changed: Vec<ServiceName>,
    /// Places of those that were tried ahead.
    pub(crate) tried: BTreeSet<u32>,
}

/// A table to be made, or one that was made ahead.
struct Outdated<'p> {
    name: &'p ServiceName,
    plan: &'p ServicePlan,
    before: Option<Vec<Slot>>,
    draft: Option<Draft>,
}

impl Kernel {
    /// What the maps should hold once `plans` are in force.
    pub(crate) fn wanted_image(
        &self,
        plans: &[(ServiceName, ServicePlan)],
        removed: &[ServiceName],
        resync: bool,
    ) -> Image {
        let touched: BTreeSet<&ServiceName> = plans.iter().map(|(name, _)| name).chain(removed).collect();
        let stay = || self.programmed.iter().filter(|(name, _)| !resync && !touched.contains(name));
        let same = |(name, plan): &(ServiceName, ServicePlan)| {
            self.programmed.get(name).is_some_and(|programmed| programmed.plan.same_lookups(plan))
        };
        let mut image = Image::default();
        if !resync && removed.is_empty() && plans.iter().all(same) {
            // The same addresses and ports: the index needs no rebuilding, however many services there are.
            image.index.clone_from(&self.image.index);
            image.prefixes.clone_from(&self.image.prefixes);
        } else {
            let all = stay().map(|(_, programmed)| &programmed.plan).chain(plans.iter().map(|(_, plan)| plan));
            all.for_each(|plan| plan.add_lookups(&mut image));
            image.sort_ranges();
        }
        if !resync {
            image.backends.clone_from(&self.image.backends);
            image.server_ids.clone_from(&self.image.server_ids);
            for programmed in touched.iter().filter_map(|name| self.programmed.get(*name)) {
                programmed.plan.remove_backends(&mut image);
            }
        }
        plans.iter().for_each(|(_, plan)| plan.add_backends(&mut image));
        image
    }

    /// What leads to `plans` where only their own entries can differ from what the maps hold: they are looked up as before.
    /// The work grows with `plans`, not with the config.
    pub(crate) fn changed_entries(&self, plans: &[(ServiceName, ServicePlan)]) -> Option<Changes> {
        let mut changes = Changes::default();
        let there = &self.image;
        for (name, plan) in plans {
            let before = &self.programmed.get(name)?.plan;
            if !before.same_lookups(plan) {
                return None;
            }
            let backends: BTreeMap<_, _> = plan.backends.iter().copied().collect();
            let server_ids: BTreeMap<_, _> = plan.server_ids.iter().copied().collect();
            let gone = before.backends.iter().filter(|(index, _)| !backends.contains_key(index));
            changes.clear_backends.extend(gone.map(|(index, _)| *index).filter(|i| there.backends.contains_key(i)));
            let gone = before.server_ids.iter().filter(|(key, _)| !server_ids.contains_key(key));
            changes
                .remove_server_ids
                .extend(gone.map(|(key, _)| *key).filter(|key| there.server_ids.contains_key(key)));
            let set = backends.into_iter().filter(|(index, entry)| there.backends.get(index) != Some(entry));
            changes.set_backends.extend(set);
            let set = server_ids.into_iter().filter(|(key, index)| there.server_ids.get(key) != Some(index));
            changes.set_server_ids.extend(set);
        }
        // A place that one service leaves and another takes in the same step is set.
        let set: BTreeSet<BackendIndex> = changes.set_backends.iter().map(|(index, _)| *index).collect();
        changes.clear_backends.retain(|index| !set.contains(index));
        Some(changes)
    }

    /// Tables that differ from those in the kernel, and whose they are.
    pub(crate) fn new_tables(
        &self,
        services: &Services,
        plans: &[(ServiceName, ServicePlan)],
        making: &mut Making<'_>,
        changes: &mut Changes,
    ) -> Result<NewTables> {
        let all = making.all;
        let outdated: Vec<Outdated<'_>> = plans
            .iter()
            .filter(|(name, plan)| all || !self.programmed.get(name).is_some_and(|there| there.holds(plan)))
            .map(|(name, plan)| self.outdated(name, plan, making))
            .collect();
        let built = in_parallel(&outdated, |Outdated { plan, before, draft, .. }| -> Result<_> {
            if draft.is_some() {
                return Ok(None);
            }
            let alive = |index: BackendIndex| !plan.dead.contains(&index);
            let step = step(before.as_deref(), &plan.owners(), plan.keeps, alive);
            // A table adopted from an earlier controller stays where it is the same to the bit.
            let same = before.as_ref() == Some(&step.slots);
            service_manager::progress();
            Ok(if same { None } else { Some((NewTable::new(&step.slots)?, step.moved)) })
        });
        let mut new = NewTables::default();
        for (Outdated { name, plan, draft, .. }, table) in outdated.into_iter().zip(built) {
            let mut table: Option<(NewTable, Vec<u32>)> = table?;
            if let Some(Draft { table: made, moved, tried, .. }) = draft {
                new.tried.extend(tried.then_some(plan.entry.table));
                table = Some((made, moved));
            }
            new.changed.push(name.clone());
            let entry = plan.entry;
            let began_former = making.given.begins_former(entry.number);
            let slots = match &table {
                _ if began_former => Some((0..entry.table_size).collect()),
                Some((table, moved)) if table.counts.open > 0 => Some(moved.clone()),
                _ => None,
            };
            if let Some(slots) = slots {
                let number = u32::from(entry.number);
                changes.opened.push(Opened { number, table_size: entry.table_size, slots, now: making.given.now });
                let entries = services.by_name(name).map_or(1, |service| service.connections.flow_table);
                changes.flow_tables.push((number, entries));
            }
            new.publish.extend(table.map(|(table, _)| (entry.table, table)));
        }
        for (name, plan) in plans.iter().filter(|(_, plan)| plan.tracks_all()) {
            let entries = services.by_name(name).map_or(1, |service| service.connections.flow_table);
            changes.flow_tables.push((u32::from(plan.entry.number), entries));
        }
        Ok(new)
    }

    fn outdated<'p>(&self, name: &'p ServiceName, plan: &'p ServicePlan, making: &mut Making<'_>) -> Outdated<'p> {
        let (place, given) = (plan.entry.table, making.given);
        let draft = making.drafts.take(name, plan, self.plane.stamp(place));
        if !making.all && draft.is_some() {
            return Outdated { name, plan, before: None, draft };
        }
        let before = making.tables.remove(&place).or_else(|| {
            if given.returning.contains(&place) {
                return self.plane.read_table(place, plan.table_size.get()).ok();
            }
            // Not where the place is a new one.
            let there = self.programmed.get(name).filter(|p| p.plan.entry.table == place)?;
            self.plane.written_table(place, || there.plan.settled_slots()).ok()
        });
        // A table of another mapping says nothing about these slots.
        let follows = given.returning.contains(&place) || !given.begins_former(plan.entry.number);
        let same_size = |slots: &Vec<Slot>| slots.len() == plan.table_size.get() as usize;
        Outdated { name, plan, before: before.filter(|slots| follows && same_size(slots)), draft: None }
    }
}
