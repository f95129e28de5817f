//! The step from what runs to what should run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Result;
use balancer_common::layout::flags;
use balancer_common::slot::{BackendIndex, Slot};

use crate::controller::answer::explain::table_of;
use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::index;
use crate::controller::kernel::places::Placement;
use crate::controller::kernel::trial::Trial;
use crate::controller::kernel::{KernelService, Knowledge};
use crate::controller::state::State;
use crate::controller::unwritten::Part;
use crate::controller::watch::observer::Moment;
use crate::dataplane::{Changes, Counters, Image, TableCounts, TableState};
use crate::model::{Service, ServiceName};
use crate::plan::ServicePlan;
use crate::service_manager;

/// Why a step is made, and how it is tried before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) trial: Option<Trial>,
    /// In words; where there are none, something was observed.
    pub(crate) because: Vec<String>,
}

impl Change {
    pub(crate) fn asked(trial: Trial, because: String) -> Self {
        Self { trial: Some(trial), because: vec![because] }
    }
}

/// A step that is ready to be written.
struct Prepared {
    plans: Vec<(ServiceName, ServicePlan)>,
    removed: Vec<ServiceName>,
    /// All that the maps are to hold; none where only entries of the services change.
    wanted: Option<Image>,
    changes: Changes,
    /// Services whose tables change.
    changed: Vec<ServiceName>,
}

impl Kernel {
    /// Places changed hands, and nothing in the kernel names them.
    fn note_same(&mut self, plans: Vec<(ServiceName, ServicePlan)>, given: &Placement) {
        for (name, plan) in plans.into_iter().filter(|_| given.any()) {
            if let Some(programmed) = self.programmed.get_mut(&name) {
                programmed.plan = plan;
            }
        }
    }

    /// Counters of the backends that these services have in the kernel.
    fn counters_of(&self, services: &BTreeSet<ServiceName>) -> Result<BTreeMap<BackendIndex, Counters>> {
        let allocations = &self.allocations;
        let placed = services.iter().flat_map(|name| allocations.of_service(name));
        let indices: Vec<BackendIndex> = placed.map(|(_, allocated)| allocated.index).collect();
        // Read in one go, one costs a tenth.
        if indices.len() < self.pools.backends.in_use() / 10 {
            return self.plane.counters_of(&indices);
        }
        let all = self.counters()?;
        let of = |index: BackendIndex| (index, all.get(usize::from(index)).copied().unwrap_or_default());
        Ok(indices.into_iter().map(of).collect())
    }

    /// Counters by index, as the kernel has them.
    pub(crate) fn counters(&self) -> Result<Vec<Counters>> {
        self.plane.counters(index(self.pools.backends.highest()))
    }
}

impl State {
    /// Brings the kernel to what config, commands, health and next hops ask for, for the services named, those whose last
    /// step failed, and those that went. Answers which tables changed.
    ///
    /// # Errors
    /// Where something failed. The services stay pending, places that the step had taken are free again, and the kernel is
    /// read back before the next write where this one had begun.
    pub(crate) fn reconcile(&mut self, dirty: BTreeSet<ServiceName>, change: Change) -> Result<Vec<ServiceName>> {
        self.kernel.pending.extend(dirty);
        let observed = std::mem::take(&mut self.observed.because);
        let because = [&observed[..], &change.because].concat();
        let mut given = Placement::default();
        match self.step(change.trial, &because, &mut given) {
            Ok(changed) => {
                self.kernel.pending.clear();
                self.kernel.pools.release(&given);
                Ok(changed)
            }
            Err(error) => {
                // What was observed is the reason of the next attempt too.
                self.observed.because.splice(0..0, observed);
                self.give_places_back(given);
                Err(error)
            }
        }
    }

    fn step(&mut self, trial: Option<Trial>, because: &[String], given: &mut Placement) -> Result<Vec<ServiceName>> {
        let known = std::mem::replace(&mut self.kernel.knowledge, Knowledge::Unknown);
        let tables = match known {
            Knowledge::InStep => None,
            Knowledge::Read(tables) => Some(tables),
            Knowledge::Unknown => {
                let (image, tables) = self.kernel.plane.read_back()?;
                self.kernel.image = image;
                Some(tables)
            }
        };
        let resync = tables.is_some();
        let prepared = self.prepare(trial, tables, given);
        if !resync {
            // Nothing was written yet.
            self.kernel.knowledge = Knowledge::InStep;
        }
        let Prepared { plans, removed, wanted, changes, changed } = prepared?;
        if changes.is_empty() && !resync {
            self.kernel.note_same(plans, given);
            return Ok(Vec::new());
        }
        // What an earlier controller left may be just right.
        let generation = self.kernel.generation + u64::from(!changes.is_empty());
        let counts: BTreeMap<u32, TableCounts> =
            changes.publish.iter().map(|(place, table)| (*place, table.counts.clone())).collect();
        let entries = if wanted.is_none() { changes.entries() } else { Changes::default() };
        self.kernel.knowledge = Knowledge::Unknown;
        self.kernel.plane.apply(changes)?;
        self.kernel.knowledge = Knowledge::InStep;
        self.kernel.generation = generation;
        match wanted {
            Some(wanted) => self.kernel.image = wanted,
            None => self.kernel.image.follow(&entries),
        }
        self.note_applied(plans, &counts, &removed, given, because);
        Ok(changed)
    }

    /// Everything of a step that can fail before the maps in use are written.
    fn prepare(&mut self, trial: Option<Trial>, tables: Option<TableState>, given: &mut Placement) -> Result<Prepared> {
        let resync = tables.is_some();
        let dirty = if resync { self.desired.all_services() } else { self.kernel.pending.clone() };
        (given.counters, given.now) = (self.kernel.counters_of(&dirty)?, self.kernel.plane.clock());
        self.weigh_removals(&dirty);
        self.watch.shares.look_again(&dirty);
        self.watch.publishing.look_again(&dirty);
        let all = &self.desired.config.services;
        // In the order of the file, in which places are given.
        let places: BTreeSet<usize> = dirty.iter().filter_map(|name| all.position(name)).collect();
        let services: Vec<Service> = places.into_iter().map(|place| all[place].clone()).collect();
        let mut plans = Vec::with_capacity(services.len());
        for service in &services {
            plans.push((service.name.clone(), self.plan(service, given)?));
            service_manager::progress();
        }
        let removed = self.release_absent(resync, given);
        if given.any() {
            self.note_owners();
            self.kernel.plane.reset_counters(&given.fresh)?;
            self.kernel.plane.reset_service_counters(&given.numbered)?;
            // Without a trial it is a way back, or what was observed: that never waits for the disk.
            match self.keep(Part::Places) {
                Err(error) if trial.is_some() => return Err(error),
                _ => {}
            }
        }
        let few = if resync || !removed.is_empty() { None } else { self.kernel.changed_entries(&plans) };
        let (mut changes, wanted) = match few {
            Some(changes) => (changes, None),
            None => {
                let wanted = self.kernel.wanted_image(&plans, &removed, resync);
                (self.kernel.image.changes_to(&wanted), Some(wanted))
            }
        };
        let mut tables = tables.unwrap_or_default();
        let (publish, changed) = self.new_tables(&plans, &mut tables, resync, &mut changes, given)?;
        self.kernel.guard_changes(&plans, &removed, &mut changes, resync)?;
        changes.former.clone_from(&given.former);
        changes.remove_tables.clone_from(&given.freed_tables);
        changes.remove_tables.extend(self.unwanted_tables(&plans, tables));
        changes.remove_tracks = given.freed_numbers.iter().map(|number| u32::from(*number)).collect();
        changes.publish = publish;
        if let Some(trial) = trial
            && (!changes.is_empty() || resync)
        {
            self.try_tables(trial, &plans, &changes)?;
        }
        Ok(Prepared { plans, removed, wanted, changes, changed })
    }

    /// Undoes what a failed step did to who has which place.
    fn give_places_back(&mut self, given: Placement) {
        let Some((allocations, pools)) = given.before else { return };
        (self.kernel.allocations, self.kernel.pools) = (allocations, pools);
        if let Err(error) = self.keep(Part::Places) {
            log::error!("{error:#}");
        }
    }

    /// These services, and those whose tables were planned with other weights than are in force now.
    pub(crate) fn out_of_weight(&self, mut names: BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
        let as_planned = |service: &Service| {
            let Some(programmed) = self.kernel.programmed.get(&service.name) else { return false };
            let weights =
                service.backends.iter().map(|backend| (&backend.name, self.effective(service, backend).weight));
            let planned = programmed.plan.weighted.iter().map(|weighted| (&weighted.name, weighted.weight));
            weights.filter(|(_, weight)| !weight.is_zero()).eq(planned)
        };
        let services = self.desired.config.services.iter();
        names.extend(services.filter(|service| !as_planned(service)).map(|service| service.name.clone()));
        names
    }

    /// Tables that nobody wants; a former one is wanted while it is in use.
    fn unwanted_tables(&self, plans: &[(ServiceName, ServicePlan)], tables: TableState) -> Vec<u32> {
        if tables.is_empty() {
            return Vec::new();
        }
        let with_former = plans.iter().filter(|(_, plan)| plan.entry.has(flags::FORMER));
        let former: BTreeSet<u32> = with_former.map(|(_, plan)| plan.entry.table ^ 1).collect();
        tables.into_keys().filter(|place| !former.contains(place)).collect()
    }

    fn note_applied(
        &mut self,
        plans: Vec<(ServiceName, ServicePlan)>,
        published: &BTreeMap<u32, TableCounts>,
        removed: &[ServiceName],
        given: &Placement,
        because: &[String],
    ) {
        if let Err(error) = self.keep(Part::Generation) {
            log::warn!("{error:#}");
        }
        for name in removed {
            self.kernel.programmed.remove(name);
        }
        let now = Moment::of_some(Instant::now(), &given.counters);
        let because = if because.is_empty() { "routes, neighbours or health".to_owned() } else { because.join("; ") };
        let tables =
            plans.iter().map(|(name, plan)| table_of(name, plan, because.clone(), self.kernel.generation)).collect();
        if let Err(error) = self.kernel.journal.note(tables) {
            log::warn!("{error:#}");
        }
        published.keys().for_each(|place| drop(self.watch.drift.astray.remove(place)));
        for (name, plan) in plans {
            let place = plan.entry.table;
            let before = self.kernel.programmed.remove(&name);
            let counts = published.get(&place).cloned();
            let programmed = match (counts, before) {
                (None, Some(before)) if before.plan.entry.table == place => KernelService { plan, ..before },
                (counts, before) => {
                    let read = || self.kernel.plane.read_table(place, plan.table_size.get()).ok();
                    let Some(counts) = counts.or_else(|| read().map(|slots: Vec<Slot>| TableCounts::of(&slots))) else {
                        continue;
                    };
                    let tracked = before.map(|before| before.tracked.changed()).unwrap_or_default();
                    let (generation, changed) = (self.kernel.generation, now.clone());
                    KernelService { plan, counts, generation, changed, tracked }
                }
            };
            self.kernel.programmed.insert(name, programmed);
        }
    }
}
