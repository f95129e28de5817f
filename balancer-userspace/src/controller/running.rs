//! What runs, what should run, and the step from one to the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use balancer_common::layout::{BackendEntry, flags};
use balancer_common::slot::{BackendIndex, Slot};

use super::alarms::Watchtower;
use super::allocate::{Pools, index};
use super::apply::Warned;
use super::capture::Capture;
use super::drift::Drift;
use super::drill::Drilling;
use super::explain::table_of;
use super::fragments::Held;
use super::gate::Waiting;
use super::guarded::Guarded;
use super::observer::{Moment, Observer};
use super::paths::PathMtus;
use super::places::Given;
use super::profile::Profile;
use super::settle::Tracked;
use super::trial::Trial;
use crate::dataplane::{self, Changes, Counters, DataPlane, Image, NewTable, Opened, Shadow, TableCounts, TableState};
use crate::health::Health;
use crate::history::History;
use crate::journal::Journal;
use crate::model::{Backend, BackendId, CheckKind, Config, ForwardMode, Service, ServiceName, Weight};
use crate::neighbor::{Reachability, Wanted};
use crate::plan::{Effective, ServicePlan, Standing, effective, step};
use crate::state::{Allocations, Overrides, StateDir};

/// What health checks last said of a backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked {
    /// Where it was asked.
    pub(super) at: Option<SocketAddr>,
    pub(super) health: Health,
    pub(super) took: Option<Duration>,
    pub(super) failures: u64,
    pub(super) error: Option<String>,
}

/// A service as it stands in the kernel.
pub(super) struct Programmed {
    pub(super) plan: ServicePlan,
    pub(super) counts: TableCounts,
    pub(super) generation: u64,
    /// When its table last changed, and the counters then.
    pub(super) changed: Moment,
    pub(super) tracked: Tracked,
}

pub(super) struct Running {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    /// The text that `config` was read from.
    pub(super) text: String,
    /// Its warnings that nothing silences.
    pub(super) warned: BTreeSet<Warned>,
    pub(super) history: History,
    pub(super) state: StateDir,
    pub(super) overrides: Overrides,
    pub(super) allocations: Allocations,
    pub(super) generation: u64,
    pub(super) pools: Pools,
    pub(super) checked: HashMap<BackendId, Checked>,
    pub(super) reachable: HashMap<Wanted, Reachability>,
    pub(super) paths: PathMtus,
    pub(super) held: Held,
    pub(super) capture: Option<Capture>,
    pub(super) waiting: Waiting,
    pub(super) plane: DataPlane,
    pub(super) programmed: BTreeMap<ServiceName, Programmed>,
    /// What the maps hold, as far as it was written from here.
    pub(super) image: Image,
    /// Tables that the kernel holds, while nothing else is known of them: at the start, and after a write that failed.
    pub(super) unsynced: Option<TableState>,
    pub(super) observer: Observer,
    pub(super) drift: Drift,
    pub(super) journal: Journal,
    pub(super) drilling: Option<Drilling>,
    /// Why tables may change with the next step.
    pub(super) because: Vec<String>,
    pub(super) watchtower: Watchtower,
    pub(super) profile: Profile,
    /// A change on probation.
    pub(super) guarded: Option<Guarded>,
    /// Loaded when it is first needed.
    pub(super) shadow: Option<Shadow>,
    /// Once is enough where it can't be loaded, until a change needs it.
    pub(super) shadow_tried: bool,
    /// Set where the next step is tried before it is made.
    pub(super) trial: Option<Trial>,
    pub(super) interfaces: BTreeMap<String, Result<dataplane::Attached, String>>,
    pub(super) applies: BTreeMap<&'static str, u64>,
    pub(super) applied_at: SystemTime,
    pub(super) refused: Option<String>,
}

pub(super) fn wanted(service: &Service, backend: &Backend) -> Wanted {
    Wanted { address: backend.address, on_link: service.forward == ForwardMode::L2 }
}

pub(super) fn id(service: &Service, backend: &Backend) -> BackendId {
    BackendId { service: service.name.clone(), backend: backend.name.clone() }
}

impl Running {
    pub(super) fn all_services(&self) -> BTreeSet<ServiceName> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }

    pub(super) fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.config.services.iter().find(|service| service.name == *name)
    }

    /// Where the kernel has a backend.
    pub(super) fn index_of(&self, id: &BackendId) -> Option<BackendIndex> {
        self.allocations.backends.get(id).map(|allocated| allocated.index)
    }

    /// What the kernel has of it.
    pub(super) fn entry_of(&self, id: &BackendId) -> Option<&BackendEntry> {
        self.image.backends.get(&self.index_of(id)?)
    }

    /// The weight in force: set by command, or the file's.
    pub(super) fn weight(&self, service: &Service, backend: &Backend) -> Weight {
        let set = self.overrides.get(&id(service, backend)).and_then(|set| set.weight);
        set.and_then(Weight::new).unwrap_or(backend.weight)
    }

    pub(super) fn effective(&self, service: &Service, backend: &Backend) -> Effective {
        let id = id(service, backend);
        let reachability = self.reachable.get(&wanted(service, backend)).cloned().unwrap_or(Reachability::Pending);
        let whole = effective(&Standing {
            weight: self.weight(service, backend),
            drained: self.overrides.get(&id).is_some_and(|set| set.drained),
            health: self.health(service, &id),
            reachability,
            held_back: self.held_back(service, backend),
        });
        Effective { weight: self.ramped(&id, whole.weight), ..whole }
    }

    pub(super) fn health(&self, service: &Service, id: &BackendId) -> Health {
        match service.health.kind {
            CheckKind::None => Health::Up,
            _ => self.checked.get(id).map_or(Health::Unknown, |checked| checked.health),
        }
    }

    /// Brings the kernel to what config, commands, health and next hops ask for, for the services named (and those that
    /// went). Answers which tables changed. Where a write fails, the kernel is read back before the next one.
    pub(super) fn reconcile(&mut self, mut dirty: BTreeSet<ServiceName>) -> Result<Vec<ServiceName>> {
        let trial = self.trial.take();
        let because = std::mem::take(&mut self.because);
        let unsynced = self.unsynced.take();
        let resync = unsynced.is_some();
        if resync {
            dirty = self.all_services();
        }
        let mut given = Given { counters: self.counters()?, now: self.plane.clock(), ..Given::default() };
        let services: Vec<Service> =
            self.config.services.iter().filter(|service| dirty.contains(&service.name)).cloned().collect();
        let mut plans = Vec::with_capacity(services.len());
        let planned: Result<()> = services.iter().try_for_each(|service| {
            plans.push((service.name.clone(), self.plan(service, &mut given)?));
            Ok(())
        });
        if let Err(error) = planned {
            self.unsynced = unsynced;
            return Err(error);
        }
        let removed = self.release_absent(&mut given);
        if given.any() {
            self.note_owners();
            self.plane.reset_counters(&given.fresh)?;
            self.plane.reset_service_counters(&given.numbered)?;
            self.state.save_allocations(&self.allocations)?;
        }
        let wanted = self.wanted_image(&plans, &removed, resync);
        let mut changes = self.image.changes_to(&wanted);
        let mut tables = unsynced.unwrap_or_default();
        let (publish, changed) = self.new_tables(&plans, &mut tables, resync, &mut changes, &given)?;
        self.guard_changes(&plans, &mut changes, resync)?;
        changes.former.clone_from(&given.former);
        changes.remove_tables.clone_from(&given.freed_tables);
        changes.remove_tables.extend(self.unwanted_tables(&plans, tables));
        changes.remove_tracks = given.freed_numbers.iter().map(|number| u32::from(*number)).collect();
        changes.publish = publish;
        if changes.is_empty() && !resync {
            return Ok(Vec::new());
        }
        if let Some(trial) = trial
            && let Err(error) = self.try_tables(trial, &plans, &changes.publish)
        {
            let (image, tables) = self.plane.read_back()?;
            (self.image, self.unsynced) = (image, Some(tables));
            return Err(error);
        }
        // What an earlier controller left may be just right.
        self.generation += u64::from(!changes.is_empty());
        let counts: BTreeMap<u32, TableCounts> =
            changes.publish.iter().map(|(place, table)| (*place, table.counts.clone())).collect();
        if let Err(error) = self.plane.apply(changes) {
            let (image, tables) = self.plane.read_back()?;
            (self.image, self.unsynced) = (image, Some(tables));
            return Err(error);
        }
        self.image = wanted;
        self.note_applied(plans, &counts, &removed, given, &because);
        Ok(changed)
    }

    /// Tables that nobody wants; a former one is wanted while it is in use.
    fn unwanted_tables(&self, plans: &[(ServiceName, ServicePlan)], tables: TableState) -> Vec<u32> {
        let former =
            |place: &u32| plans.iter().any(|(_, plan)| plan.entry.has(flags::FORMER) && plan.entry.table ^ 1 == *place);
        tables.into_keys().filter(|place| !former(place)).collect()
    }

    /// What the maps should hold once `plans` are in force.
    fn wanted_image(&self, plans: &[(ServiceName, ServicePlan)], removed: &[ServiceName], resync: bool) -> Image {
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

    /// Tables that differ from those in the kernel, and whose they are. Leaves in `tables` those that nobody wants.
    fn new_tables(
        &self,
        plans: &[(ServiceName, ServicePlan)],
        tables: &mut TableState,
        all: bool,
        changes: &mut Changes,
        given: &Given,
    ) -> Result<NewTables> {
        let outdated: Vec<_> = plans
            .iter()
            .filter(|(name, plan)| {
                let same = |p: &Programmed| {
                    p.plan.same_table(plan)
                        && p.plan.entry.table == plan.entry.table
                        && !plan.dead.iter().any(|dead| p.counts.settled.contains_key(dead))
                };
                all || !self.programmed.get(name).is_some_and(same)
            })
            .map(|(name, plan)| {
                let place = plan.entry.table;
                let before = tables.remove(&place).or_else(|| {
                    // Not where the place is a new one.
                    let there = self.programmed.get(name).filter(|p| p.plan.entry.table == place)?;
                    self.plane.written_table(place, || there.plan.settled_slots()).ok()
                });
                (name, plan, before.filter(|slots| slots.len() == plan.table_size.get() as usize))
            })
            .collect();
        let built = super::build::in_parallel(&outdated, |(_, plan, before)| -> Result<_> {
            let alive = |index: BackendIndex| !plan.dead.contains(&index);
            let step = step(before.as_deref(), &plan.owners(), plan.keeps, alive);
            // A table adopted from an earlier controller stays where it is the same to the bit.
            let same = before.as_ref() == Some(&step.slots);
            Ok(if same { None } else { Some((NewTable::new(&step.slots)?, step.moved)) })
        });
        let (mut publish, mut changed) = (Vec::new(), Vec::new());
        for ((name, plan, _), table) in outdated.into_iter().zip(built) {
            let table: Option<(NewTable, Vec<u32>)> = table?;
            changed.push(name.clone());
            let Some((table, mut moved)) = table else { continue };
            let entry = plan.entry;
            let began_former = given.former.iter().any(|(number, _)| *number == entry.number);
            if began_former {
                moved = (0..entry.table_size).collect();
            }
            if table.counts.open > 0 || began_former {
                let number = u32::from(entry.number);
                changes.opened.push(Opened { number, table_size: entry.table_size, slots: moved, now: given.now });
                let entries = self.service(name).map_or(1, |service| service.connections.flow_table);
                changes.flow_tables.push((number, entries));
            }
            publish.push((entry.table, table));
        }
        for (name, plan) in plans.iter().filter(|(_, plan)| plan.tracks_all()) {
            let entries = self.service(name).map_or(1, |service| service.connections.flow_table);
            changes.flow_tables.push((u32::from(plan.entry.number), entries));
        }
        Ok((publish, changed))
    }

    fn note_applied(
        &mut self,
        plans: Vec<(ServiceName, ServicePlan)>,
        published: &BTreeMap<u32, TableCounts>,
        removed: &[ServiceName],
        given: Given,
        because: &[String],
    ) {
        if let Err(error) = self.state.save_generation(self.generation) {
            log::warn!("{error:#}");
        }
        for name in removed {
            self.programmed.remove(name);
        }
        let now = Moment::new(Instant::now(), &given.counters);
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
                (None, Some(before)) => Programmed { plan, ..before },
                (counts, before) => {
                    let read = || self.plane.read_table(place, plan.table_size.get()).ok();
                    let Some(counts) = counts.or_else(|| read().map(|slots: Vec<Slot>| TableCounts::of(&slots))) else {
                        continue;
                    };
                    let tracked = before.map(|before| before.tracked.changed()).unwrap_or_default();
                    let (generation, changed) = (self.generation, now.clone());
                    Programmed { plan, counts, generation, changed, tracked }
                }
            };
            self.programmed.insert(name, programmed);
        }
        given.freed.iter().for_each(|index| self.pools.backends.give_back(u32::from(*index)));
        given.freed_numbers.iter().for_each(|number| self.pools.services.give_back(u32::from(*number)));
    }

    /// Counters by index, as the kernel has them.
    pub(super) fn counters(&self) -> Result<Vec<Counters>> {
        self.plane.counters(index(self.pools.backends.highest()))
    }
}

/// Tables to publish, by place, and the services whose tables changed.
type NewTables = (Vec<(u32, NewTable)>, Vec<ServiceName>);
