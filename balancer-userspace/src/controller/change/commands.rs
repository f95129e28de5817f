//! Changes that people ask for: weights and drains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::control::api::{Changed, PlannedService};
use crate::controller::change::forward::Dirty;
use crate::controller::desired::judged::brought_in;
use crate::controller::desired::whole::Next;
use crate::controller::kernel::trial::Trial;
use crate::controller::proposal::ChangeRequest;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::model::{BackendId, BackendName, ServiceName, Weight};
use crate::plan::preview::{Preview, Weighing};
use crate::spec::Diagnostic;
use crate::spec::lint::Concerned;
use crate::state::Override;

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

    pub(crate) fn changed(
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
