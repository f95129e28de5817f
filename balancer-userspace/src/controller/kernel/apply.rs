//! A step of the kernel: what is known of it, what differs from what should be there, and the write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Result;
use balancer_common::layout::flags;
use balancer_common::slot::Slot;

use crate::controller::flows::NewFlows;
use crate::controller::kernel::drafts::Drafts;
use crate::controller::kernel::journal_entry::table_of;
use crate::controller::kernel::placement::Placement;
use crate::controller::kernel::tables::{Making, NewTables};
use crate::controller::kernel::{Kernel, KernelService, Knowledge};
use crate::dataplane::{Changes, Image, TableCounts, TableState};
use crate::model::{ServiceName, Services};
use crate::plan::ServicePlan;

/// A step that is ready to be written.
pub(crate) struct Prepared {
    pub(crate) plans: Vec<(ServiceName, ServicePlan)>,
    pub(crate) removed: Vec<ServiceName>,
    /// All that the maps are to hold; none where only entries of the services change.
    wanted: Option<Image>,
    pub(crate) changes: Changes,
    /// Services whose tables change.
    pub(crate) changed: Vec<ServiceName>,
    /// Places of tables that were tried ahead.
    pub(crate) tried: BTreeSet<u32>,
}

impl Kernel {
    /// The tables as they were read back, where nothing else is known of them: at the start, and after a write that failed.
    /// From here on nothing is known, until the step says so.
    ///
    /// # Errors
    /// Where they can't be read.
    pub(crate) fn tables_read_back(&mut self) -> Result<Option<TableState>> {
        Ok(match std::mem::replace(&mut self.knowledge, Knowledge::Unknown) {
            Knowledge::InStep => None,
            Knowledge::Read(tables) => Some(tables),
            Knowledge::Unknown => {
                let (image, tables) = self.plane.read_back()?;
                self.image = image;
                Some(tables)
            }
        })
    }

    /// What is to be written for `plans`, and for services that are `removed`; with `tables` that were read back, all that
    /// differs in any map.
    pub(crate) fn prepare(
        &self,
        services: &Services,
        plans: Vec<(ServiceName, ServicePlan)>,
        removed: Vec<ServiceName>,
        tables: Option<TableState>,
        given: &Placement,
        drafts: Drafts,
    ) -> Result<Prepared> {
        let resync = tables.is_some();
        let few = if resync || !removed.is_empty() { None } else { self.changed_entries(&plans) };
        let (mut changes, wanted) = match few {
            Some(changes) => (changes, None),
            None => {
                let wanted = self.wanted_image(&plans, &removed, resync);
                (self.image.changes_to(&wanted), Some(wanted))
            }
        };
        let mut tables = tables.unwrap_or_default();
        let mut making = Making { tables: &mut tables, all: resync, given, drafts };
        let NewTables { publish, changed, tried } = self.new_tables(services, &plans, &mut making, &mut changes)?;
        self.guard_changes(&plans, &removed, &mut changes, resync)?;
        changes.former.clone_from(&given.former);
        changes.remove_tables.clone_from(&given.freed_tables);
        changes.remove_tables.extend(unwanted_tables(&plans, tables));
        changes.remove_tracks = given.freed_numbers.iter().map(|number| u32::from(*number)).collect();
        changes.publish = publish;
        Ok(Prepared { plans, removed, wanted, changes, changed, tried })
    }

    /// Writes what was prepared. Answers what the tables that were published hold, by place.
    ///
    /// # Errors
    /// Where a write failed: the kernel is read back before the next one.
    pub(crate) fn write(&mut self, prepared: &mut Prepared) -> Result<BTreeMap<u32, TableCounts>> {
        let changes = std::mem::take(&mut prepared.changes);
        // What an earlier controller left may be just right.
        let generation = self.generation + u64::from(!changes.is_empty());
        let counts = changes.publish.iter().map(|(place, table)| (*place, table.counts.clone())).collect();
        let entries = if prepared.wanted.is_none() { changes.entries() } else { Changes::default() };
        self.knowledge = Knowledge::Unknown;
        self.plane.apply(changes)?;
        self.knowledge = Knowledge::InStep;
        self.generation = generation;
        match prepared.wanted.take() {
            Some(wanted) => self.image = wanted,
            None => self.image.follow(&entries),
        }
        Ok(counts)
    }

    /// Places changed hands, and nothing in the kernel names them.
    pub(crate) fn note_same(&mut self, plans: Vec<(ServiceName, ServicePlan)>, given: &Placement) {
        for (name, plan) in plans.into_iter().filter(|_| given.any()) {
            if let Some(programmed) = self.programmed.get_mut(&name) {
                programmed.plan = plan;
            }
        }
    }

    /// What was written is what the kernel has.
    pub(crate) fn note_applied(
        &mut self,
        plans: Vec<(ServiceName, ServicePlan)>,
        published: &BTreeMap<u32, TableCounts>,
        removed: &[ServiceName],
        given: &Placement,
        because: &[String],
    ) {
        for name in removed {
            self.programmed.remove(name);
        }
        let now = NewFlows::of_some(Instant::now(), &given.counters);
        let because = if because.is_empty() { "routes, neighbours or health".to_owned() } else { because.join("; ") };
        let tables = plans.iter().map(|(name, plan)| table_of(name, plan, because.clone(), self.generation)).collect();
        if let Err(error) = self.journal.note(tables) {
            log::warn!("{error:#}");
        }
        for (name, plan) in plans {
            let place = plan.entry.table;
            let before = self.programmed.remove(&name);
            let counts = published.get(&place).cloned();
            let programmed = match (counts, before) {
                (None, Some(before)) if before.plan.entry.table == place => KernelService { plan, ..before },
                (counts, before) => {
                    let read = || self.plane.read_table(place, plan.table_size.get()).ok();
                    let Some(counts) = counts.or_else(|| read().map(|slots: Vec<Slot>| TableCounts::of(&slots))) else {
                        continue;
                    };
                    let tracked = before.map(|before| before.tracked.changed()).unwrap_or_default();
                    let (generation, changed) = (self.generation, now.clone());
                    KernelService { plan, counts, generation, changed, tracked }
                }
            };
            self.programmed.insert(name, programmed);
        }
    }
}

/// Tables that nobody wants; a former one is wanted while it is in use.
fn unwanted_tables(plans: &[(ServiceName, ServicePlan)], tables: TableState) -> Vec<u32> {
    if tables.is_empty() {
        return Vec::new();
    }
    let with_former = plans.iter().filter(|(_, plan)| plan.entry.has(flags::FORMER));
    let former: BTreeSet<u32> = with_former.map(|(_, plan)| plan.entry.table ^ 1).collect();
    tables.into_keys().filter(|place| !former.contains(place)).collect()
}
