//! Changes that people ask for: weights and drains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::control::api::{Changed, PlannedService, ShareChange};
use crate::controller::handle::Refusal;
use crate::model::{Backend, BackendId, BackendName, Service, ServiceName, Weight};
use crate::plan::preview::{Preview, Weighing};
use crate::spec::Kind;
use crate::state::Override;

use crate::controller::kernel::step::Change;
use crate::controller::kernel::trial::Trial;
use crate::controller::state::{State, id};
use crate::controller::transaction::ChangeRequest;

impl State {
    pub(crate) fn set_weight(
        &mut self,
        id: &BackendId,
        weight: Option<Weight>,
        asked: ChangeRequest,
    ) -> Result<Changed, Refusal> {
        let file_weight = self.find(id)?.1.weight;
        let what = weight.map_or_else(|| "weight of the file".to_owned(), |weight| format!("weight {weight}"));
        self.override_backend(id, asked, &what, |set| {
            set.weight = weight.map(Weight::get);
            set.file_weight = file_weight.get();
        })
    }

    pub(crate) fn set_drain(&mut self, id: &BackendId, drain: bool, asked: ChangeRequest) -> Result<Changed, Refusal> {
        self.override_backend(id, asked, if drain { "drain" } else { "undrain" }, |set| set.drained = drain)
    }

    fn find(&self, id: &BackendId) -> Result<(&Service, &Backend), Refusal> {
        let missing = |what: String, there: Vec<&str>| {
            Refusal::NotFound(format!("there is no {what}; there are: {}", listed(&there)))
        };
        let service = self.service(&id.service).ok_or_else(|| {
            missing(
                format!("service {}", id.service),
                self.desired.config.services.iter().map(|s| s.name.as_str()).collect(),
            )
        })?;
        let backend = service.backends.iter().find(|backend| backend.name == id.backend).ok_or_else(|| {
            let there = service.backends.iter().map(|b| b.name.as_str()).collect();
            missing(format!("backend {} in service {}", id.backend, id.service), there)
        })?;
        Ok((service, backend))
    }

    /// Puts a command over the file, brings it into the kernel, and takes it back where that fails.
    fn override_backend(
        &mut self,
        id: &BackendId,
        mut asked: ChangeRequest,
        what: &str,
        change: impl FnOnce(&mut Override),
    ) -> Result<Changed, Refusal> {
        let start = Instant::now();
        let before = self.shares(&id.service);
        asked.check()?;
        self.refuse_while_guarded()?;
        let previous = self.desired.overrides.clone();
        let overloaded = self.overloaded(&id.service);
        let left = self.desired.config.node.guard.map(|_| self.left(&self.desired.config));
        asked.command = format!("{what} of {id}");
        self.set_override(id, asked.uid, change)?;
        let new: Vec<String> =
            self.overloaded(&id.service).into_iter().filter(|one| !overloaded.contains(one)).map(|one| one.1).collect();
        if !new.is_empty() && !asked.accepts(Kind::Overload.id()) {
            self.desired.overrides = previous;
            let overload = Kind::Overload.id();
            return Err(Refusal::Invalid(format!(
                "{what} of {} was not applied: {} [{overload}]; if it must be, `--accept {overload} --reason \"…\"`",
                id,
                new.join(", ")
            )));
        }
        if let Some((changes, duration)) = left.and_then(|left| self.needs_guard(&left)) {
            // What it goes back to is what was before.
            let wanted = std::mem::replace(&mut self.desired.overrides, previous.clone());
            self.begin_guard(&asked, &changes, duration)?;
            self.desired.overrides = wanted;
        }
        let change = Change::asked(Trial::COMMAND, asked.said());
        let outcome = self
            .store
            .save_overrides(&self.desired.overrides)
            .and_then(|()| self.reconcile(BTreeSet::from([id.service.clone()]), change));
        if let Err(error) = outcome {
            self.abandon_guard();
            self.desired.overrides = previous;
            if let Err(error) = self.store.save_overrides(&self.desired.overrides) {
                log::error!("{error:#}");
            }
            self.repair();
            return Err(Refusal::Failed(format!("{what} of {id} was not applied, nothing changed: {error:#}")));
        }
        if self.desired.probation.is_none() {
            self.record(asked);
        }
        let after = self.shares(&id.service);
        Ok(self.changed(&id.service, &before, &after, start))
    }

    fn set_override(
        &mut self,
        id: &BackendId,
        uid: Option<u32>,
        change: impl FnOnce(&mut Override),
    ) -> Result<(), Refusal> {
        let file_weight = self.find(id)?.1.weight.get();
        let mut set = self.desired.overrides.remove(id).unwrap_or(Override {
            weight: None,
            file_weight,
            drained: false,
            by_uid: 0,
            at: String::new(),
        });
        change(&mut set);
        (set.by_uid, set.at) = (uid.unwrap_or(0), now());
        if set.weight.is_some() || set.drained {
            self.desired.overrides.insert(id.clone(), set);
        }
        Ok(())
    }

    /// What a command changes, with what was left of the weights before, where the config has it put on probation.
    fn needs_guard(&self, left: &[Vec<u32>]) -> Option<(Vec<PlannedService>, Duration)> {
        let (now, seed) = (self.left(&self.desired.config), self.desired.config.node.seed);
        let state = |weights| Weighing { services: &self.desired.config.services, weights, seed };
        let preview = Preview::of(&state(left), &state(&now));
        Some((preview.services, self.guard_by_policy(preview.risk)?))
    }

    /// Servers of a service that would get more than their capacity at the declared peaks, with what is said about them.
    fn overloaded(&self, name: &ServiceName) -> BTreeSet<(IpAddr, String)> {
        let services = &self.desired.config.services;
        let Some(at) = services.position(name).filter(|_| services.declares_loads()) else { return BTreeSet::new() };
        let of = |(address, capacity, load): (IpAddr, _, crate::load::Load)| {
            let part = load.of(capacity).filter(|part| *part > 1.0)?;
            Some((address, format!("{address} would get {:.0} % of its capacity at the peak", part * 100.0)))
        };
        let loads = crate::load::of_service(services, at, |at| self.left_of(&services[at]));
        loads.into_iter().filter_map(of).collect()
    }

    /// After a write that failed: once more, to what was in force before.
    pub(crate) fn repair(&mut self) {
        if let Err(error) = self.reconcile(self.all_services(), Change::default()) {
            log::error!("the kernel could not be brought back in step, trying again at the next change: {error:#}");
        }
    }

    /// The share of each backend in the table that is in the kernel.
    fn shares(&self, name: &ServiceName) -> BTreeMap<BackendName, Option<f64>> {
        let (Some(service), Some(programmed)) = (self.service(name), self.kernel.programmed.get(name)) else {
            return BTreeMap::new();
        };
        let share = |backend: &Backend| {
            let allocated = self.kernel.allocations.backends.get(&id(service, backend))?;
            programmed.counts.share(allocated.index)
        };
        service.backends.iter().map(|backend| (backend.name.clone(), share(backend))).collect()
    }

    fn changed(
        &self,
        name: &ServiceName,
        before: &BTreeMap<BackendName, Option<f64>>,
        after: &BTreeMap<BackendName, Option<f64>>,
        start: Instant,
    ) -> Changed {
        let service = self.service(name);
        let backends: Vec<ShareChange> = service
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, backend)| {
                let effective = self.effective(service, backend);
                ShareChange {
                    name: backend.name.clone(),
                    weight: self.weight(service, backend).get(),
                    effective_weight: effective.weight.get(),
                    state: effective.state,
                    before: before.get(&backend.name).copied().flatten(),
                    after: after.get(&backend.name).copied().flatten(),
                }
            })
            .collect();
        let mut warnings = Vec::new();
        if backends.iter().all(|backend| backend.effective_weight == 0) {
            warnings.push(format!("no backend of {name} takes new flows now: its packets are dropped (no_backend)"));
        }
        Changed {
            service: name.clone(),
            generation: self.kernel.generation,
            backends,
            seconds: start.elapsed().as_secs_f64(),
            warnings,
            guard: self.guard(),
        }
    }

    /// Ends what commands set where the file has become newer: its weight changed, or the backend went.
    pub(crate) fn end_overrides(&mut self) -> Vec<BackendId> {
        let mut file_weights = BTreeMap::new();
        for service in &self.desired.config.services {
            for backend in &service.backends {
                file_weights.insert(id(service, backend), backend.weight.get());
            }
        }
        let mut ended = Vec::new();
        self.desired.overrides.retain(|id, set| {
            let file = file_weights.get(id);
            if set.weight.is_some() && file != Some(&set.file_weight) {
                set.weight = None;
                ended.push(id.clone());
            }
            let keep = file.is_some() && (set.weight.is_some() || set.drained);
            if !keep && !ended.contains(id) {
                ended.push(id.clone());
            }
            keep
        });
        for id in &ended {
            log::info!("what a command had set for {id} ended: the file's weight changed or the backend went");
        }
        ended
    }
}

/// A few names, and how many more.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        n if n > 10 => format!("{shown} and {} more", n - 10),
        _ => shown,
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
