//! The step from what runs to what should run.

pub(crate) mod disk;
pub(crate) mod outline;
pub(crate) mod reason;
pub(crate) mod settle;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;

use crate::controller::kernel::Knowledge;
use crate::controller::kernel::apply::Prepared;
use crate::controller::kernel::placement::Placement;
use crate::controller::kernel::planned::Fact;
use crate::controller::kernel::trial::Trial;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::unwritten::Part;
use crate::dataplane::TableState;
use crate::model::{Service, ServiceName};
use crate::service_manager;

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
                given.release(&mut self.kernel.pools);
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

    pub(crate) fn step(
        &mut self,
        trial: Option<Trial>,
        because: &[String],
        given: &mut Placement,
    ) -> Result<Vec<ServiceName>> {
        let tables = self.kernel.tables_read_back()?;
        let resync = tables.is_some();
        let prepared = self.prepare(trial, tables, given);
        if !resync {
            // Nothing was written yet.
            self.kernel.knowledge = Knowledge::InStep;
        }
        let mut prepared = prepared?;
        // What commands set is on disk before the kernel has it.
        self.end_writing()?;
        if prepared.changes.is_empty() && !resync {
            self.kernel.note_same(prepared.plans, given);
            return Ok(Vec::new());
        }
        let published = self.kernel.write(&mut prepared)?;
        if let Err(error) = self.keep(Part::Generation) {
            log::warn!("{error:#}");
        }
        published.keys().for_each(|place| drop(self.watch.drift.astray.remove(place)));
        let Prepared { plans, removed, changed, .. } = prepared;
        self.kernel.note_applied(plans, &published, &removed, given, because);
        Ok(changed)
    }

    /// Everything of a step that can fail before the maps in use are written.
    pub(crate) fn prepare(
        &mut self,
        trial: Option<Trial>,
        tables: Option<TableState>,
        given: &mut Placement,
    ) -> Result<Prepared> {
        let resync = tables.is_some();
        let dirty = if resync { self.desired.all_services() } else { self.kernel.pending.clone() };
        (given.counters, given.now) = (self.kernel.counters_of(&dirty)?, self.kernel.plane.clock());
        self.weigh_removals(&dirty);
        self.watch.shares.look_again(&dirty);
        self.publishing.look_again(&dirty);
        let all = &self.desired.config.services;
        // In the order of the file, in which places are given.
        let places: BTreeSet<usize> = dirty.iter().filter_map(|name| all.position(name)).collect();
        let mut plans = Vec::with_capacity(places.len());
        for place in places {
            let service = &self.desired.config.services[place];
            let facts = self.facts(service);
            let plan = self.kernel.plan(service, facts, &self.desired.config.node, given)?;
            plans.push((service.name.clone(), plan));
            service_manager::progress();
        }
        let removed = self.kernel.release_absent(&self.desired.config.services, resync, given);
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
        let services = &self.desired.config.services;
        let drafts = std::mem::take(&mut self.kernel.rehearsal.drafts);
        let prepared = self.kernel.prepare(services, plans, removed, tables, given, drafts)?;
        if let Some(trial) = trial
            && (!prepared.changes.is_empty() || resync)
        {
            self.kernel.try_tables(trial, services, &prepared)?;
        }
        Ok(prepared)
    }

    /// How the backends of a service stand now, in their order.
    pub(crate) fn facts(&self, service: &Service) -> Vec<Fact> {
        let now = Instant::now();
        let fact = |backend| Fact {
            weight: self.effective(service, backend).weight,
            next_hop: self.observed.next_hop(service, backend),
            given_up: self.observed.gives_up(service, backend, false, now),
        };
        service.backends.iter().map(fact).collect()
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

    /// After a write that failed: once more, to what was in force before.
    pub(crate) fn repair(&mut self) -> Result<()> {
        self.reconcile(self.desired.all_services(), Change::default()).map(drop)
    }

    /// Brings the kernel to what was in force before a change that failed, and says so where that fails too.
    pub(crate) fn repaired(&mut self, refusal: Refusal) -> Refusal {
        match self.repair() {
            Ok(()) => refusal,
            Err(error) => {
                refusal.but(&format!("the kernel could not be brought back yet, trying again each second: {error:#}"))
            }
        }
    }
}
