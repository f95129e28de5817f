//! What runs, what should run, and the step from one to the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use balancer_common::layout::{ServiceEntry, ServiceKey};

use super::allocate::{Pools, identity, index};
use super::observer::{Moment, Observer};
use crate::dataplane::{Changes, Counters, DataPlane, Image, NewTable, TableCounts, TableState};
use crate::health::Health;
use crate::model::{Backend, BackendId, CheckKind, Config, ForwardMode, Service, ServiceName, Weight};
use crate::neighbor::{Reachability, Wanted};
use crate::plan::{Effective, Placed, ServicePlan, Standing, address_entry, effective, plan_service};
use crate::state::{Allocated, Allocations, Overrides, StateDir};

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
    pub(super) place: u32,
    pub(super) counts: TableCounts,
    pub(super) generation: u64,
    /// When its table last changed, and the counters then.
    pub(super) changed: Moment,
}

pub(super) struct Running {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    pub(super) state: StateDir,
    pub(super) overrides: Overrides,
    pub(super) allocations: Allocations,
    pub(super) generation: u64,
    pub(super) pools: Pools,
    pub(super) checked: HashMap<BackendId, Checked>,
    pub(super) reachable: HashMap<Wanted, Reachability>,
    pub(super) plane: DataPlane,
    pub(super) programmed: BTreeMap<ServiceName, Programmed>,
    /// Entries that say which addresses are VIPs.
    pub(super) addresses: BTreeMap<ServiceKey, ServiceEntry>,
    /// What the kernel holds, while nothing else is known of it: at the start, and after a write that failed.
    pub(super) unsynced: Option<(Image, TableState)>,
    pub(super) observer: Observer,
    pub(super) interfaces: BTreeMap<String, Result<crate::dataplane::Attached, String>>,
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

    /// The weight in force: set by command, or the file's.
    pub(super) fn weight(&self, service: &Service, backend: &Backend) -> Weight {
        let set = self.overrides.get(&id(service, backend)).and_then(|set| set.weight);
        set.and_then(Weight::new).unwrap_or(backend.weight)
    }

    pub(super) fn effective(&self, service: &Service, backend: &Backend) -> Effective {
        let id = id(service, backend);
        let health = match service.health.kind {
            CheckKind::None => Health::Up,
            _ => self.checked.get(&id).map_or(Health::Unknown, |checked| checked.health),
        };
        let reachability = self.reachable.get(&wanted(service, backend)).cloned().unwrap_or(Reachability::Pending);
        effective(&Standing {
            weight: self.weight(service, backend),
            drained: self.overrides.get(&id).is_some_and(|set| set.drained),
            health,
            reachability,
        })
    }

    /// The index of a backend, a new one where it has none or became another to the kernel.
    fn place_backend(&mut self, service: &Service, backend: &Backend, given: &mut Given) -> Result<u16> {
        let id = id(service, backend);
        let identity = identity(service, backend, &self.config.node);
        let before = self.allocations.backends.get(&id);
        if let Some(allocated) = before.filter(|allocated| allocated.identity == identity) {
            return Ok(allocated.index);
        }
        let base = before.map_or(Counters::default(), |old| {
            given.freed.push(old.index);
            old.base + given.counters.get(usize::from(old.index)).copied().unwrap_or_default()
        });
        let place = self.pools.backends.take().context("no place is left for a backend; raise `limits.backends`")?;
        let allocated = Allocated { index: index(place), base, identity };
        given.fresh.push(allocated.index);
        self.allocations.backends.insert(id, allocated);
        Ok(index(place))
    }

    /// The place of a service's table, a new one where the table's size changes: the old one is read until the service's
    /// entry names the new.
    fn place_table(&mut self, service: &Service, given: &mut Given) -> Result<u32> {
        let resized = self.programmed.get(&service.name).is_some_and(|p| p.plan.table_size != service.table_size);
        match self.allocations.tables.get(&service.name) {
            Some(place) if !resized => return Ok(*place),
            Some(place) => given.freed_tables.push(*place),
            None => {}
        }
        let place = self.pools.tables.take().context("no place is left for a table; raise `limits.services`")?;
        given.tables = true;
        self.allocations.tables.insert(service.name.clone(), place);
        Ok(place)
    }

    fn plan(&mut self, service: &Service, given: &mut Given) -> Result<ServicePlan> {
        let mut placed = Vec::with_capacity(service.backends.len());
        for backend in &service.backends {
            let index = self.place_backend(service, backend, given)?;
            let weight = self.effective(service, backend).weight;
            let next_hop = match self.reachable.get(&wanted(service, backend)) {
                Some(Reachability::Resolved(next_hop)) => Some(next_hop.clone()),
                _ => None,
            };
            placed.push(Placed { index, weight, next_hop });
        }
        let table = self.place_table(service, given)?;
        Ok(plan_service(service, &placed, table, &self.config.node))
    }

    /// Brings the kernel to what config, commands, health and next hops ask for, for the services named (and those that
    /// went). Answers which tables changed. Where a write fails, the kernel is read back before the next one.
    pub(super) fn reconcile(&mut self, mut dirty: BTreeSet<ServiceName>) -> Result<Vec<ServiceName>> {
        let unsynced = self.unsynced.take();
        let resync = unsynced.is_some();
        if resync {
            dirty = self.all_services();
        }
        let removed: Vec<ServiceName> =
            self.programmed.keys().filter(|name| self.service(name).is_none()).cloned().collect();
        let mut given = Given { counters: self.counters()?, ..Given::default() };
        let services: Vec<Service> =
            self.config.services.iter().filter(|service| dirty.contains(&service.name)).cloned().collect();
        let mut plans = Vec::with_capacity(services.len());
        for service in &services {
            plans.push((service.name.clone(), self.plan(service, &mut given)?));
        }
        self.release_absent(&removed, &mut given);
        if given.any() {
            self.plane.reset_counters(&given.fresh)?;
            self.state.save_allocations(&self.allocations)?;
        }

        let addresses: BTreeMap<_, _> = self.config.services.iter().map(address_entry).collect();
        let mut wanted = Image { services: addresses.clone(), ..Image::default() };
        plans.iter().for_each(|(_, plan)| plan.add_to(&mut wanted));
        let (now, mut tables) = match unsynced {
            Some((image, tables)) => (image, tables),
            None => {
                let mut now = Image { services: self.addresses.clone(), ..Image::default() };
                let touched = dirty.iter().chain(&removed).filter_map(|name| self.programmed.get(name));
                touched.for_each(|programmed| programmed.plan.add_to(&mut now));
                (now, TableState::new())
            }
        };
        let mut changes = now.changes_to(&wanted);
        let (publish, changed) = self.new_tables(&plans, &mut tables, resync)?;
        changes.remove_tables = given.freed_tables.clone();
        changes.remove_tables.extend(tables.into_keys());
        changes.publish = publish;
        if changes.is_empty() && !resync {
            return Ok(Vec::new());
        }
        // What an earlier controller left may be just right.
        self.generation += u64::from(!changes.is_empty());
        let counts: BTreeMap<u32, TableCounts> =
            changes.publish.iter().map(|(place, table)| (*place, table.counts.clone())).collect();
        if let Err(error) = self.plane.apply(changes) {
            self.unsynced = Some(self.plane.read_back()?);
            return Err(error);
        }
        self.note_applied(plans, &counts, &removed, addresses, given);
        Ok(changed)
    }

    /// Tables that differ from those in the kernel, and whose they are. Leaves in `tables` those that nobody wants.
    fn new_tables(
        &self,
        plans: &[(ServiceName, ServicePlan)],
        tables: &mut TableState,
        all: bool,
    ) -> Result<NewTables> {
        let outdated: Vec<_> = plans
            .iter()
            .filter(|(name, plan)| {
                let same = |p: &Programmed| p.plan.same_table(plan) && p.place == plan.entry.table;
                all || !self.programmed.get(name).is_some_and(same)
            })
            .collect();
        let built = super::build::in_parallel(&outdated, |(_, plan)| NewTable::new(&plan.owners()));
        let (mut publish, mut changed) = (Vec::new(), Vec::new());
        for ((name, plan), table) in outdated.into_iter().zip(built) {
            let table = table?;
            // A table adopted from an earlier controller stays where it is the same to the bit.
            if tables.remove(&plan.entry.table).is_none_or(|there| there != table.counts) {
                publish.push((plan.entry.table, table));
            }
            changed.push(name.clone());
        }
        Ok((publish, changed))
    }

    /// Gives back places of services and backends that are in the config no more.
    fn release_absent(&mut self, removed: &[ServiceName], given: &mut Given) {
        let present: BTreeSet<BackendId> =
            self.config.services.iter().flat_map(|s| s.backends.iter().map(move |b| id(s, b))).collect();
        if self.allocations.backends.len() > present.len() {
            self.allocations.backends.retain(|id, allocated| {
                let keep = present.contains(id);
                if !keep {
                    given.freed.push(allocated.index);
                }
                keep
            });
        }
        let names = self.all_services();
        self.allocations.tables.retain(|name, place| {
            let keep = names.contains(name);
            if !keep {
                given.freed_tables.push(*place);
            }
            keep
        });
        given.tables |= !removed.is_empty();
    }

    fn note_applied(
        &mut self,
        plans: Vec<(ServiceName, ServicePlan)>,
        published: &BTreeMap<u32, TableCounts>,
        removed: &[ServiceName],
        addresses: BTreeMap<ServiceKey, ServiceEntry>,
        given: Given,
    ) {
        if let Err(error) = self.state.save_generation(self.generation) {
            log::warn!("{error:#}");
        }
        self.addresses = addresses;
        for name in removed {
            self.programmed.remove(name);
        }
        let now = Moment::new(Instant::now(), &given.counters);
        for (name, plan) in plans {
            let place = plan.entry.table;
            let before = self.programmed.remove(&name);
            let counts = published.get(&place).cloned();
            let programmed = match (counts, before) {
                (None, Some(before)) => Programmed { plan, ..before },
                (counts, _) => {
                    let counts = counts.or_else(|| self.plane.read_table(place, plan.table_size.get()).ok());
                    let Some(counts) = counts else { continue };
                    Programmed { plan, place, counts, generation: self.generation, changed: now.clone() }
                }
            };
            self.programmed.insert(name, programmed);
        }
        given.freed.iter().for_each(|index| self.pools.backends.give_back(u32::from(*index)));
        given.freed_tables.iter().for_each(|place| self.pools.tables.give_back(*place));
    }

    /// Counters by index, as the kernel has them.
    pub(super) fn counters(&self) -> Result<Vec<Counters>> {
        self.plane.counters(index(self.pools.backends.highest()))
    }
}

/// Tables to publish, by place, and the services whose tables changed.
type NewTables = (Vec<(u32, NewTable)>, Vec<ServiceName>);

/// Places given and taken back in one step.
#[derive(Default)]
struct Given {
    counters: Vec<Counters>,
    fresh: Vec<u16>,
    freed: Vec<u16>,
    freed_tables: Vec<u32>,
    tables: bool,
}

impl Given {
    fn any(&self) -> bool {
        self.tables || !self.fresh.is_empty() || !self.freed.is_empty() || !self.freed_tables.is_empty()
    }
}

impl ServicePlan {
    fn add_to(&self, image: &mut Image) {
        image.services.insert(self.key, self.entry);
        image.replies.extend(self.replies.iter().copied());
        image.backends.extend(self.backends.iter().copied());
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.set_services.is_empty()
            && self.remove_services.is_empty()
            && self.set_replies.is_empty()
            && self.remove_replies.is_empty()
            && self.set_backends.is_empty()
            && self.clear_backends.is_empty()
            && self.publish.is_empty()
            && self.remove_tables.is_empty()
    }
}
