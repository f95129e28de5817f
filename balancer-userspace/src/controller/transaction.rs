//! A config file's content brought into force: read, linted, compared, applied whole, written to the config's place, and
//! recorded. There is one way in, whoever asks.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::control::api::{Generation, PlannedService, Reloaded};
use crate::controller::ahead::Ahead;
use crate::controller::bring::{Dirty, Next, Whole};
use crate::controller::desired::Desired;
use crate::controller::desired::empty::refuse_emptiness;
use crate::controller::desired::judged::{as_bad, brought_in};
use crate::controller::desired::overrides::listed;
use crate::controller::handle::{Refusal, Unfit};
use crate::controller::kernel::step::Change;
use crate::controller::kernel::trial::Trial;
use crate::controller::proposal::{ChangeRequest, Linted, Proposal, Recorded, judged, linted, said};
use crate::controller::state::State;
use crate::controller::unwritten::Part;
use crate::history::{Entry, Outcome, Record, digest};
use crate::model::{Config, ServiceName};
use crate::moment::Moment;
use crate::spec::{self, Diagnostic, Diagnostics, Loaded};

/// Warnings that a refusal says in full.
const MOST_SAID: usize = 100;

impl Desired {
    /// A config that could be in force, and what linting finds in it.
    pub(crate) fn linted(&self, file: &str, text: &str) -> Result<Linted, Refusal> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        linted(file, text.to_owned(), directory).map_err(Refusal::from)
    }

    /// A config that was in force once.
    fn judged_again(&self, file: &str, text: String) -> Result<Linted, Refusal> {
        judged(file, text, self.path.parent().unwrap_or(Path::new(""))).map_err(Refusal::from)
    }

    /// A generation of the history, with the content of its config file.
    pub(crate) fn stored(&self, number: u64) -> Result<Generation, Refusal> {
        let record = self.recorded(number)?;
        let text = self.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(Generation { record: record.clone(), text })
    }

    fn recorded(&self, number: u64) -> Result<&Record, Refusal> {
        self.history.find(number).ok_or_else(|| {
            let known: Vec<String> = self.history.records().iter().rev().map(|r| r.generation.to_string()).collect();
            let known = listed(&known.iter().map(String::as_str).collect::<Vec<_>>());
            Refusal::NotFound(format!("there is no generation {number} in the history; there are: {known}"))
        })
    }

    /// Counts how it went, for status and metrics.
    pub(crate) fn noted(&mut self, outcome: Result<Reloaded, Refusal>) -> Result<Reloaded, Refusal> {
        let result = match &outcome {
            Ok(_) => "ok",
            Err(Refusal::Failed(_)) => "failed",
            Err(_) => "refused",
        };
        *self.applies.entry(result).or_default() += 1;
        if outcome.is_ok() {
            (self.refused, self.applied_at) = (None, Moment::now());
        }
        outcome
    }

    /// What `plan` refuses because `apply` would, beside what linting finds.
    pub(crate) fn admissible(&self, config: &Config, text: &str, plan: Option<&str>) -> Result<(), Refusal> {
        self.refuse_fixed(config)?;
        let now = self.plan_id(text);
        match plan {
            Some(plan) if plan != now => Err(Refusal::Invalid(format!(
                "plan {plan} is stale: something has changed since; look at `balancer plan` again (it would be {now})"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether what is in force has the same finding about the same.
    pub(crate) fn is_known(&self, finding: &Diagnostic) -> bool {
        let judged = &self.judged;
        judged.file().iter().chain(judged.findings()).any(|known| as_bad(known, finding))
    }

    /// The warnings that stay, where nothing stops the change.
    fn accepted(
        &self,
        found: &Diagnostics,
        together: &[Diagnostic],
        proposal: &Proposal,
    ) -> Result<Vec<String>, Refusal> {
        let asked = &proposal.asked;
        asked.check()?;
        let with_commands = together.iter().filter(|finding| !found.findings.contains(finding));
        let counting: Vec<&Diagnostic> =
            found.findings.iter().chain(with_commands).filter(|finding| finding.counts()).collect();
        let taken = |finding: &&&Diagnostic| self.is_known(finding) || asked.accepts(finding.id);
        let new: Vec<&&Diagnostic> = counting.iter().filter(|finding| !taken(finding)).collect();
        if proposal.strict && !new.is_empty() {
            let said: String = new.iter().take(MOST_SAID).map(ToString::to_string).collect();
            let left_out = new.len().saturating_sub(MOST_SAID);
            let said = if left_out > 0 { format!("{said}{left_out} more not shown\n") } else { said };
            let ids: BTreeSet<&str> = new.iter().map(|finding| finding.id).collect();
            let ids: Vec<String> = ids.iter().map(|id| format!("--accept {id}")).collect();
            let found = Diagnostics { findings: new.into_iter().map(|finding| (*finding).clone()).collect(), more: 0 };
            let said = format!(
                "{said}this change brings in warnings, so nothing was applied; put right what they say, silence them in \
                 the file, or accept them: {} --reason \"…\"",
                ids.join(" ")
            );
            return Err(Refusal::Config(Box::new(Unfit { said, found })));
        }
        for finding in &new {
            log::warn!("{}", said(finding));
        }
        Ok(counting.iter().map(|finding| said(finding)).collect())
    }

    /// Stands for what is in force and what would be: another text, or anything changed meanwhile, is another id.
    pub(crate) fn plan_id(&self, text: &str) -> String {
        let overrides = serde_json::to_string(&self.overrides).unwrap_or_default();
        let last = self.history.last().map_or("", |record| record.hash.as_str());
        digest(format!("{}\n{overrides}\n{last}\n{}", digest(self.text.as_bytes()), digest(text.as_bytes())).as_bytes())
            [..16]
            .to_owned()
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
}

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

    /// Brings back a generation of the history: the one named, or the one before what is in force, each time one further.
    /// What was in force before needs no acceptance.
    pub(crate) fn rollback(&mut self, generation: Option<u64>, asked: ChangeRequest) -> Result<Reloaded, Refusal> {
        if self.desired.probation.is_some() && generation.is_none() {
            return self.take_back(asked.reason.as_deref().unwrap_or("asked for"), asked.uid);
        }
        self.refuse_while_guarded()?;
        let outcome = self.try_rollback(generation, asked);
        self.desired.noted(outcome)
    }

    fn try_rollback(&mut self, generation: Option<u64>, mut asked: ChangeRequest) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let record = match generation {
            Some(number) => self.desired.recorded(number)?,
            None => {
                let in_force = digest(self.desired.text.as_bytes());
                let found = self.desired.history.one_back(&in_force, &self.desired.overrides);
                found.ok_or_else(|| Refusal::NotFound("the history has nothing before what is in force".to_owned()))?
            }
        };
        let text = self.desired.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let (number, back_to) = (record.generation, self.desired.history.origin(record));
        let overrides = record.overrides.clone();
        let (Loaded { config, text, written }, found) =
            self.desired.judged_again(&format!("generation {number}"), text)?;
        self.desired.refuse_fixed(&config)?;
        asked.command = format!("rollback to generation {number}");
        let (added, removed, changed) = differences(&self.desired.config, &config);
        let shares = self.all_shares();
        let next = Whole { config, text, written, found: found.findings, overrides };
        let (_, mut warnings) = match self.back(next, asked.said()) {
            Ok(done) => done,
            Err(refusal) => return Err(self.repaired(refusal)),
        };
        let recorded = Recorded { back_to: Some(back_to), ..self.applied() };
        self.record_as(asked, recorded);
        warnings.extend(self.unwritten.said());
        Ok(Reloaded {
            generation: self.kernel.generation,
            added,
            removed,
            changed,
            shares: self.shares_since(&shares),
            warnings,
            seconds: start.elapsed().as_secs_f64(),
            ..Reloaded::default()
        })
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

    /// Adds what is in force to the history. Where that fails the change stays, and answer, log and alarm say so.
    pub(crate) fn record(&mut self, asked: ChangeRequest) {
        let recorded = self.applied();
        self.record_as(asked, recorded);
    }

    /// What is in force.
    fn applied(&self) -> Recorded {
        let (text, overrides) = (self.desired.text.clone(), self.desired.overrides.clone());
        Recorded { generation: self.kernel.generation, text, overrides, outcome: Outcome::Applied, back_to: None }
    }

    /// Every record has a number of its own, above all before it.
    pub(crate) fn record_as(&mut self, asked: ChangeRequest, recorded: Recorded) {
        let waiting = self.unwritten.records.last().map(|entry| entry.generation);
        let last = waiting.or(self.desired.history.last().map(|record| record.generation));
        let generation = recorded.generation.max(last.map_or(0, |last| last + 1));
        self.kernel.generation = self.kernel.generation.max(generation);
        self.unwritten.records.push(Entry {
            generation,
            at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            uid: asked.uid,
            command: asked.command,
            reason: asked.reason,
            accepted: asked.accept,
            back_to: recorded.back_to,
            text: recorded.text,
            overrides: recorded.overrides,
            findings: self.desired.judged.ids(),
            result: recorded.outcome,
        });
        // What can't be written is tried again, and said until it is.
        self.keep(Part::History).ok();
        self.keep(Part::Generation).ok();
    }

    /// The same where it is another than the last.
    pub(crate) fn record_if_new(&mut self, asked: ChangeRequest) {
        let content = digest(self.desired.text.as_bytes());
        let overrides = &self.desired.overrides;
        let same = match self.unwritten.records.last() {
            Some(waiting) => waiting.text == self.desired.text && waiting.overrides == *overrides,
            None => self.desired.history.last().is_some_and(|r| r.content == content && r.overrides == *overrides),
        };
        if !same {
            self.record(asked);
        }
    }
}

pub(crate) fn differences(before: &Config, after: &Config) -> (Vec<ServiceName>, Vec<ServiceName>, Vec<ServiceName>) {
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for service in &after.services {
        match before.services.by_name(&service.name) {
            None => added.push(service.name.clone()),
            Some(there) if there != service => changed.push(service.name.clone()),
            Some(_) => {}
        }
    }
    let gone = before.services.iter().filter(|service| after.services.by_name(&service.name).is_none());
    let mut removed: Vec<ServiceName> = gone.map(|service| service.name.clone()).collect();
    [&mut added, &mut removed, &mut changed].into_iter().for_each(|names| names.sort_unstable());
    (added, removed, changed)
}
