//! Changes that people ask for: weights, drains, another config file.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime};

use crate::control::api::{Changed, Reloaded, ShareChange};
use crate::controller::handle::{Caller, Refusal};
use crate::model::{Backend, BackendId, BackendName, Config, Service, ServiceName, Weight};
use crate::spec;
use crate::state::Override;

use super::running::{Running, id};

impl Running {
    pub(super) fn set_weight(
        &mut self,
        id: &BackendId,
        weight: Option<Weight>,
        caller: Caller,
    ) -> Result<Changed, Refusal> {
        let file_weight = self.find(id)?.1.weight;
        let what = weight.map_or_else(|| "weight of the file".to_owned(), |weight| format!("weight {weight}"));
        self.override_backend(id, caller, &what, |set| {
            set.weight = weight.map(Weight::get);
            set.file_weight = file_weight.get();
        })
    }

    pub(super) fn set_drain(&mut self, id: &BackendId, drain: bool, caller: Caller) -> Result<Changed, Refusal> {
        self.override_backend(id, caller, if drain { "drain" } else { "undrain" }, |set| set.drained = drain)
    }

    fn find(&self, id: &BackendId) -> Result<(&Service, &Backend), Refusal> {
        let missing = |what: String, there: Vec<&str>| {
            Refusal::NotFound(format!("there is no {what}; there are: {}", listed(&there)))
        };
        let service = self.service(&id.service).ok_or_else(|| {
            missing(format!("service {}", id.service), self.config.services.iter().map(|s| s.name.as_str()).collect())
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
        caller: Caller,
        what: &str,
        change: impl FnOnce(&mut Override),
    ) -> Result<Changed, Refusal> {
        let start = Instant::now();
        let file_weight = self.find(id)?.1.weight.get();
        let before = self.shares(&id.service);
        let previous = self.overrides.clone();
        let mut set = self.overrides.remove(id).unwrap_or(Override {
            weight: None,
            file_weight,
            drained: false,
            by_uid: caller.uid,
            at: String::new(),
        });
        change(&mut set);
        (set.by_uid, set.at) = (caller.uid, now());
        if set.weight.is_some() || set.drained {
            self.overrides.insert(id.clone(), set);
        }
        let outcome = self
            .state
            .save_overrides(&self.overrides)
            .and_then(|()| self.reconcile(BTreeSet::from([id.service.clone()])));
        if let Err(error) = outcome {
            self.overrides = previous;
            if let Err(error) = self.state.save_overrides(&self.overrides) {
                log::error!("{error:#}");
            }
            self.repair();
            return Err(Refusal::Failed(format!("{what} of {id} was not applied, nothing changed: {error:#}")));
        }
        let after = self.shares(&id.service);
        Ok(self.changed(&id.service, &before, &after, start))
    }

    /// After a write that failed: once more, to what was in force before.
    fn repair(&mut self) {
        if let Err(error) = self.reconcile(self.all_services()) {
            log::error!("the kernel could not be brought back in step, trying again at the next change: {error:#}");
        }
    }

    /// The share of each backend in the table that is in the kernel.
    fn shares(&self, name: &ServiceName) -> BTreeMap<BackendName, Option<f64>> {
        let (Some(service), Some(programmed)) = (self.service(name), self.programmed.get(name)) else {
            return BTreeMap::new();
        };
        let share = |backend: &Backend| {
            let allocated = self.allocations.backends.get(&id(service, backend))?;
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
            generation: self.generation,
            backends,
            seconds: start.elapsed().as_secs_f64(),
            warnings,
        }
    }

    /// Reads the file and applies it whole, or refuses it whole.
    pub(super) fn reload(&mut self) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let outcome = self.try_reload(start);
        let result = match &outcome {
            Ok(_) => "ok",
            Err(Refusal::Failed(_)) => "failed",
            Err(_) => "refused",
        };
        *self.applies.entry(result).or_default() += 1;
        self.refused = outcome.as_ref().err().map(ToString::to_string);
        if outcome.is_ok() {
            self.applied_at = SystemTime::now();
        }
        outcome
    }

    fn try_reload(&mut self, start: Instant) -> Result<Reloaded, Refusal> {
        let loaded = spec::load(&self.path).map_err(|problems| Refusal::Invalid(problems.to_string()))?;
        self.refuse_fixed(&loaded.config)?;
        let (added, removed, changed) = differences(&self.config, &loaded.config);
        let before = std::mem::replace(&mut self.config, loaded.config);
        let attached = self.attach_interfaces();
        if let Err(error) = attached {
            self.config = before;
            self.detach_unwanted();
            return Err(Refusal::Invalid(error));
        }
        let (overrides, checked) = (self.overrides.clone(), self.checked.clone());
        let overrides_ended = self.end_overrides();
        self.forget_strangers();
        let outcome = self.state.save_overrides(&self.overrides).and_then(|()| self.reconcile(self.all_services()));
        if let Err(error) = outcome {
            (self.config, self.overrides, self.checked) = (before, overrides, checked);
            if let Err(error) = self.state.save_overrides(&self.overrides) {
                log::error!("{error:#}");
            }
            self.repair();
            return Err(Refusal::Failed(format!("the file was not applied, what ran before runs on: {error:#}")));
        }
        self.detach_unwanted();
        let seconds = start.elapsed().as_secs_f64();
        Ok(Reloaded { generation: self.generation, added, removed, changed, overrides_ended, seconds })
    }

    /// Settings that are read once, at the start.
    fn refuse_fixed(&self, new: &Config) -> Result<(), Refusal> {
        let (now, new_node) = (&self.config.node, &new.node);
        let fixed = [
            ("node.state_dir", now.state_dir == new_node.state_dir),
            ("node.pin_dir", now.pin_dir == new_node.pin_dir),
            ("node.control_socket", now.control_socket == new_node.control_socket),
            ("node.http_listen", now.http_listen == new_node.http_listen),
            ("node.datapath_log", now.datapath_log == new_node.datapath_log),
            ("node.watch_config", now.watch_config == new_node.watch_config),
            ("limits", self.config.limits == new.limits),
        ];
        let changed: Vec<&str> = fixed.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
        if changed.is_empty() {
            return Ok(());
        }
        Err(Refusal::Invalid(format!(
            "{} can't change while the controller runs; restart it (forwarding goes on meanwhile)",
            listed(&changed)
        )))
    }

    /// Ends what commands set where the file has become newer: its weight changed, or the backend went.
    pub(super) fn end_overrides(&mut self) -> Vec<BackendId> {
        let mut file_weights = BTreeMap::new();
        for service in &self.config.services {
            for backend in &service.backends {
                file_weights.insert(id(service, backend), backend.weight.get());
            }
        }
        let mut ended = Vec::new();
        self.overrides.retain(|id, set| {
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

fn differences(before: &Config, after: &Config) -> (Vec<ServiceName>, Vec<ServiceName>, Vec<ServiceName>) {
    let by_name = |config: &Config| -> BTreeMap<ServiceName, Service> {
        config.services.iter().map(|service| (service.name.clone(), service.clone())).collect()
    };
    let (before, after) = (by_name(before), by_name(after));
    let added = after.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
    let removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    let differs = |(name, service): &(&ServiceName, &Service)| before.get(*name).is_some_and(|old| old != *service);
    let changed = after.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    (added, removed, changed)
}

/// A few names, and how many more.
fn listed(names: &[&str]) -> String {
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
