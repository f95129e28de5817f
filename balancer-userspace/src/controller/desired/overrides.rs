//! Changes that people ask for: weights and drains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use crate::control::api::{Changed, PlannedService, ShareChange};
use crate::controller::desired::Desired;
use crate::controller::handle::Refusal;
use crate::model::{Backend, BackendId, BackendName, Service, ServiceName, Weight};
use crate::plan::preview::{Preview, Weighing};
use crate::spec::Diagnostic;
use crate::spec::lint::Concerned;
use crate::state::Override;

use crate::controller::bring::{Dirty, Next};
use crate::controller::desired::judged::brought_in;
use crate::controller::kernel::step::Change;
use crate::controller::kernel::trial::Trial;
use crate::controller::proposal::ChangeRequest;
use crate::controller::state::{State, id};

impl Desired {
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

    fn set_override(
        &mut self,
        id: &BackendId,
        uid: Option<u32>,
        change: impl FnOnce(&mut Override),
    ) -> Result<(), Refusal> {
        let file_weight = self.find(id)?.1.weight.get();
        let mut set = self.overrides.remove(id).unwrap_or(Override {
            weight: None,
            file_weight,
            drained: false,
            by_uid: 0,
            at: String::new(),
        });
        change(&mut set);
        (set.by_uid, set.at) = (uid.unwrap_or(0), now());
        if set.weight.is_some() || set.drained {
            self.overrides.insert(id.clone(), set);
        }
        Ok(())
    }

    /// Ends what commands set where the file has become newer: its weight changed, or the backend went.
    pub(crate) fn end_overrides(&mut self) -> Vec<BackendId> {
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

impl State {
    pub(crate) fn set_weight(
        &mut self,
        id: &BackendId,
        weight: Option<Weight>,
        asked: ChangeRequest,
    ) -> Result<Changed, Refusal> {
        let file_weight = self.desired.find(id)?.1.weight;
        let what = weight.map_or_else(|| "weight of the file".to_owned(), |weight| format!("weight {weight}"));
        self.override_backend(id, asked, &what, |set| {
            set.weight = weight.map(Weight::get);
            set.file_weight = file_weight.get();
        })
    }

    pub(crate) fn set_drain(&mut self, id: &BackendId, drain: bool, asked: ChangeRequest) -> Result<Changed, Refusal> {
        self.override_backend(id, asked, if drain { "drain" } else { "undrain" }, |set| set.drained = drain)
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
        let left = self.desired.config.node.guard.map(|_| self.left(&self.desired.config));
        let concerned = Concerned::of(&self.desired.config, |service| service.name == id.service);
        let found = self.found(&concerned);
        asked.command = format!("{what} of {id}");
        self.desired.set_override(id, asked.uid, change)?;
        let found_then = self.found(&concerned);
        let outcome = self.desired.refuse_brought_in(what, id, &asked, &found, &found_then);
        let needs_guard = left.filter(|_| outcome.is_ok()).and_then(|left| self.needs_guard(&left));
        let wanted = std::mem::replace(&mut self.desired.overrides, previous);
        let warnings = outcome?;
        let guard = match needs_guard {
            // What it goes back to is what is in force.
            Some((changes, duration)) => {
                Some(self.begin_guard(&asked, &changes, duration, &self.desired.text.clone())?)
            }
            None => None,
        };
        let change = Change::asked(Trial::COMMAND, asked.said());
        let dirty = Dirty::Only(BTreeSet::from([id.service.clone()]));
        if let Err(refusal) = self.forward(Next::Overrides(wanted), dirty, change, false, guard) {
            return Err(Refusal::Failed(format!("{what} of {id} was not applied, nothing changed: {refusal}")));
        }
        for warning in &warnings {
            log::warn!("{what} of {id}: {warning}");
        }
        let of_service = |finding: &Diagnostic| finding.about().0 == Some(id.service.as_str());
        let new = |finding: &Diagnostic| !brought_in(&found.ordered, std::slice::from_ref(finding)).is_empty();
        let (config, text) = (&self.desired.config, &self.desired.text);
        let findings = self.desired.judged.replaced(config, text, &concerned, found_then.ordered);
        self.judge(findings, &asked, |finding| of_service(finding) || new(finding));
        if self.desired.probation.is_none() {
            self.record(asked);
        }
        let after = self.shares(&id.service);
        let mut changed = self.changed(&id.service, &before, &after, start);
        changed.warnings.extend(warnings);
        Ok(changed)
    }

    /// What a command changes, with what was left of the weights before, where the config has it put on probation.
    fn needs_guard(&self, left: &[Vec<u32>]) -> Option<(Vec<PlannedService>, Duration)> {
        let (now, seed) = (self.left(&self.desired.config), self.desired.config.node.seed);
        let state = |weights| Weighing { services: &self.desired.config.services, weights, seed };
        let preview = Preview::of(&state(left), &state(&now));
        Some((preview.services, self.desired.guard_by_policy(preview.risk)?))
    }

    /// After a write that failed: once more, to what was in force before.
    pub(crate) fn repair(&mut self) -> anyhow::Result<()> {
        self.reconcile(self.desired.all_services(), Change::default()).map(drop)
    }

    /// The share of each backend in the table that is in the kernel.
    pub(crate) fn shares(&self, name: &ServiceName) -> BTreeMap<BackendName, Option<f64>> {
        let (Some(service), Some(programmed)) = (self.desired.service(name), self.kernel.programmed.get(name)) else {
            return BTreeMap::new();
        };
        let share = |backend: &Backend| {
            let allocated = self.kernel.allocations.backends.get(&id(service, backend))?;
            programmed.counts.share(allocated.index)
        };
        service.backends.iter().map(|backend| (backend.name.clone(), share(backend))).collect()
    }

    /// The shares of a service's backends before and after a change.
    pub(crate) fn share_changes(
        &self,
        name: &ServiceName,
        before: &BTreeMap<BackendName, Option<f64>>,
        after: &BTreeMap<BackendName, Option<f64>>,
    ) -> Vec<ShareChange> {
        let service = self.desired.service(name);
        service
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
            .map(|(service, backend)| {
                let effective = self.effective(service, backend);
                ShareChange {
                    name: backend.name.clone(),
                    weight: self.desired.weight(service, backend).get(),
                    effective_weight: effective.weight.get(),
                    state: effective.state,
                    before: before.get(&backend.name).copied().flatten(),
                    after: after.get(&backend.name).copied().flatten(),
                }
            })
            .collect()
    }

    fn changed(
        &self,
        name: &ServiceName,
        before: &BTreeMap<BackendName, Option<f64>>,
        after: &BTreeMap<BackendName, Option<f64>>,
        start: Instant,
    ) -> Changed {
        let backends = self.share_changes(name, before, after);
        let mut warnings = self.unwritten.said();
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

pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
