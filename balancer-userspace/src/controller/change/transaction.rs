//! A config file's content brought into force: read, linted, compared, applied whole, written to the config's place, and
//! recorded. There is one way in, whoever asks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::control::api::{PlannedService, Reloaded};
use crate::controller::ahead::Ahead;
use crate::controller::change::forward::Dirty;
use crate::controller::desired::admit::differences;
use crate::controller::desired::empty::refuse_emptiness;
use crate::controller::desired::judged::brought_in;
use crate::controller::desired::whole::{Next, Whole};
use crate::controller::kernel::trial::Trial;
use crate::controller::proposal::{ChangeRequest, Linted, Proposal};
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::history::digest;
use crate::model::ServiceName;
use crate::spec;
use crate::spec::{Diagnostic, Loaded};

impl State {
    /// Reads the file and applies it whole, or refuses it whole. Where it is as it was `ahead`, it is not linted once more.
    pub(crate) fn reload(
        &mut self,
        uid: Option<u32>,
        command: &str,
        ahead: Option<Ahead>,
    ) -> Result<Reloaded, Refusal> {
        let file = self.desired.path.display().to_string();
        let text = spec::text(&self.desired.path).map_err(Refusal::from);
        let asked = ChangeRequest { uid, command: command.to_owned(), ..ChangeRequest::default() };
        let proposal = text.and_then(|text| {
            self.desired.seen = digest(text.as_bytes());
            // What a guarded change has written itself is no other change.
            if text != self.desired.text {
                self.refuse_while_guarded()?;
            }
            Ok(Proposal::of_file(text, &file, asked))
        });
        let outcome = match proposal {
            Ok(proposal) => {
                let linted = match ahead.filter(|ahead| ahead.text == proposal.text) {
                    Some(ahead) => ahead.linted,
                    None => self.desired.linted(&proposal.file, &proposal.text),
                };
                if proposal.text == self.desired.text {
                    let outcome = linted.and_then(|linted| self.try_apply(&proposal, linted, None));
                    self.desired.noted(outcome)
                } else {
                    self.at_once_or_guarded(&proposal, linted)
                }
            }
            Err(refusal) => self.desired.noted(Err(refusal)),
        };
        // Only here is the file newer than what runs.
        self.desired.refused = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    /// What somebody proposes: at once, or on probation.
    pub(crate) fn propose(
        &mut self,
        proposal: &Proposal,
        linted: Result<Linted, Refusal>,
    ) -> Result<Reloaded, Refusal> {
        self.refuse_while_guarded()?;
        self.at_once_or_guarded(proposal, linted)
    }

    /// On probation where that is asked for, or where the config asks for it.
    fn at_once_or_guarded(
        &mut self,
        proposal: &Proposal,
        linted: Result<Linted, Refusal>,
    ) -> Result<Reloaded, Refusal> {
        let outcome = linted.and_then(|linted| {
            if !proposal.strict {
                refuse_emptiness(&linted.1, self.kernel.programmed.len())?;
            }
            let policy = self.desired.config.node.guard;
            if proposal.dry_run || (proposal.guard.is_none() && policy.is_none()) {
                return self.try_apply(proposal, linted, None);
            }
            let preview = self.preview_of(&linted.0.config);
            let duration = proposal.guard.or_else(|| self.desired.guard_by_policy(preview.risk));
            let guard = duration.map(|duration| (preview.services, duration));
            self.try_apply(proposal, linted, guard)
        });
        if proposal.dry_run { outcome } else { self.desired.noted(outcome) }
    }

    fn try_apply(
        &mut self,
        proposal: &Proposal,
        (loaded, found): Linted,
        guard: Option<(Vec<PlannedService>, Duration)>,
    ) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let Loaded { config, text, written } = loaded;
        let together = self.desired.with_commands(&written, &config, &proposal.text, &found.findings);
        let mut warnings = self.desired.accepted(&found, &together, proposal)?;
        self.desired.admissible(&config, &proposal.text, proposal.plan.as_deref())?;
        let (added, removed, changed) = differences(&self.desired.config, &config);
        let touched: BTreeSet<ServiceName> = added.iter().chain(&changed).cloned().collect();
        // Seed and addresses of the node are part of each service's tables and entries; on probation weights come in steps.
        let all = self.desired.config.node != config.node || self.desired.probation.is_some() || guard.is_some();
        let answer = |generation, overrides_ended, guard, warnings| {
            let (dry_run, seconds) = (proposal.dry_run, start.elapsed().as_secs_f64());
            let shares = Vec::new();
            Reloaded { generation, added, removed, changed, overrides_ended, warnings, shares, guard, dry_run, seconds }
        };
        if proposal.dry_run {
            return Ok(answer(self.kernel.generation, Vec::new(), None, warnings));
        }
        if !proposal.from_file {
            self.desired.refuse_newer_file(&proposal.text)?;
        }
        let guard = match guard {
            Some((changes, duration)) => Some(self.begin_guard(&proposal.asked, &changes, duration, &proposal.text)?),
            None => None,
        };
        let overrides = self.desired.overrides.clone();
        let same = self.desired.text == proposal.text;
        let known = self.desired.judged.findings().to_vec();
        let next = Whole { config, text, written, found: found.findings, overrides };
        let change = Change::asked(Trial::FILE, proposal.asked.said());
        let dirty = if all { Dirty::All } else { Dirty::Differing(touched) };
        let overrides_ended = self
            .forward(Next::Config(Box::new(next)), dirty, change, !proposal.from_file, guard)
            .map_err(|refusal| refusal.meaning("this was not applied, the previous config stays active"))?;
        // Whoever applies what is in force already means what is found in it.
        let meant = |finding: &Diagnostic| same || !brought_in(&known, std::slice::from_ref(finding)).is_empty();
        self.judge(together, &proposal.asked, meant);
        // One on probation is recorded when that is over.
        if self.desired.probation.is_none() {
            self.record_if_new(proposal.asked.clone());
        }
        warnings.extend(self.unwritten.said());
        Ok(answer(self.kernel.generation, overrides_ended, self.guard(), warnings))
    }
}
