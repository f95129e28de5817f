//! A config file's content brought into force: read, linted, compared, applied whole, written to the config's place, and
//! recorded. There is one way in, whoever asks.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::control::api::{Generation, Reloaded};
use crate::controller::desired::overrides::listed;
use crate::controller::handle::Refusal;
use crate::controller::kernel::step::Change;
use crate::controller::kernel::trial::Trial;
use crate::controller::state::State;
use crate::history::{Entry, Outcome, Record, digest};
use crate::host;
use crate::model::{Config, ServiceName};
use crate::spec::{self, Diagnostic, Diagnostics, Loaded, Severity};
use crate::state::replace_file;

/// Who asks for a change, and why.
#[derive(Debug, Clone, Default)]
pub struct ChangeRequest {
    /// Nobody where a signal or the file watcher does.
    pub uid: Option<u32>,
    /// As it is recorded.
    pub command: String,
    pub reason: Option<String>,
    /// Warnings that are taken, by identifier.
    pub accept: Vec<String>,
}

impl ChangeRequest {
    /// Whoever accepts findings says which, and why.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if let Some(id) = self.accept.iter().find(|id| spec::explained(id).is_none()) {
            return Err(Refusal::Invalid(format!("there is no finding {id}; `--accept` takes an identifier")));
        }
        if !self.accept.is_empty() && self.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
            return Err(Refusal::Invalid("say why this is accepted: `--reason \"…\"`".to_owned()));
        }
        Ok(())
    }

    /// What was asked, and by whom.
    pub(crate) fn said(&self) -> String {
        self.uid.map_or_else(|| self.command.clone(), |uid| format!("{} by uid {uid}", self.command))
    }

    pub(crate) fn accepts(&self, id: &str) -> bool {
        self.accept.iter().any(|accepted| accepted.eq_ignore_ascii_case(id))
    }
}

/// What is to be in force.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub text: String,
    /// What findings call the file.
    pub file: String,
    /// Warnings that this brings in must be accepted or silenced.
    pub strict: bool,
    /// Nothing is changed; the answer is what would be.
    pub dry_run: bool,
    /// The plan that this must be.
    pub plan: Option<String>,
    /// On probation for so long.
    pub guard: Option<Duration>,
    pub asked: ChangeRequest,
}

impl Proposal {
    /// Whose warnings nobody is there to accept.
    pub(crate) fn unasked(text: String, file: &str, asked: ChangeRequest) -> Self {
        Self { text, file: file.to_owned(), strict: false, dry_run: false, plan: None, guard: None, asked }
    }
}

/// An unsilenced warning: what and about whom.
pub(crate) type Warned = (String, Option<String>);

impl State {
    /// Reads the file and applies it whole, or refuses it whole.
    pub(crate) fn reload(&mut self, uid: Option<u32>, command: &str) -> Result<Reloaded, Refusal> {
        let file = self.desired.path.display().to_string();
        let text = spec::text(&self.desired.path).map_err(|problems| Refusal::Invalid(problems.to_string()));
        let asked = ChangeRequest { uid, command: command.to_owned(), ..ChangeRequest::default() };
        let proposal = text.and_then(|text| {
            // What a guarded change has written itself is no other change.
            if text != self.desired.text {
                self.refuse_while_guarded()?;
            }
            Ok(Proposal::unasked(text, &file, asked))
        });
        let outcome = match proposal {
            Ok(proposal) if proposal.text == self.desired.text => self.apply(&proposal),
            Ok(proposal) => self.at_once_or_guarded(&proposal),
            Err(refusal) => self.noted(Err(refusal)),
        };
        // Only here is the file newer than what runs.
        self.desired.refused = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    /// What somebody proposes: at once, or on probation.
    pub(crate) fn propose(&mut self, proposal: &Proposal) -> Result<Reloaded, Refusal> {
        self.refuse_while_guarded()?;
        self.at_once_or_guarded(proposal)
    }

    /// On probation where that is asked for, or where the config asks for it.
    fn at_once_or_guarded(&mut self, proposal: &Proposal) -> Result<Reloaded, Refusal> {
        let outcome = self.linted(&proposal.file, &proposal.text).and_then(|linted| {
            let policy = self.desired.config.node.guard;
            if proposal.dry_run || (proposal.guard.is_none() && policy.is_none()) {
                return self.try_apply(proposal, linted);
            }
            let preview = self.preview_of(&linted.0.config);
            let duration = proposal.guard.or_else(|| self.guard_by_policy(preview.risk));
            let Some(duration) = duration else { return self.try_apply(proposal, linted) };
            self.begin_guard(&proposal.asked, &preview.services, duration)?;
            let outcome = self.try_apply(proposal, linted);
            if outcome.is_err() {
                self.abandon_guard();
            }
            outcome
        });
        if proposal.dry_run { outcome } else { self.noted(outcome) }
    }

    /// At once.
    pub(crate) fn apply(&mut self, proposal: &Proposal) -> Result<Reloaded, Refusal> {
        let linted = self.linted(&proposal.file, &proposal.text);
        let outcome = linted.and_then(|linted| self.try_apply(proposal, linted));
        self.noted(outcome)
    }

    /// A config that could be in force, and what linting finds in it.
    pub(crate) fn linted(&self, file: &str, text: &str) -> Result<Linted, Refusal> {
        let directory = self.desired.path.parent().unwrap_or(Path::new(""));
        linted(file, text.to_owned(), directory).map_err(|problems| Refusal::Invalid(problems.to_string()))
    }

    /// A generation of the history, with the content of its config file.
    pub(crate) fn stored(&self, number: u64) -> Result<Generation, Refusal> {
        let record = self.recorded(number)?;
        let text = self.desired.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(Generation { record: record.clone(), text })
    }

    fn recorded(&self, number: u64) -> Result<&Record, Refusal> {
        self.desired.history.find(number).ok_or_else(|| {
            let known: Vec<String> =
                self.desired.history.records().iter().rev().map(|r| r.generation.to_string()).collect();
            let known = listed(&known.iter().map(String::as_str).collect::<Vec<_>>());
            Refusal::NotFound(format!("there is no generation {number} in the history; there are: {known}"))
        })
    }

    /// Counts how it went, for status and metrics.
    fn noted(&mut self, outcome: Result<Reloaded, Refusal>) -> Result<Reloaded, Refusal> {
        let result = match &outcome {
            Ok(_) => "ok",
            Err(Refusal::Failed(_)) => "failed",
            Err(_) => "refused",
        };
        *self.desired.applies.entry(result).or_default() += 1;
        if outcome.is_ok() {
            (self.desired.refused, self.desired.applied_at) = (None, SystemTime::now());
        }
        outcome
    }

    /// Brings back a generation of the history: the one named, or the last that differs from what is in force. What was in
    /// force before needs no acceptance.
    pub(crate) fn rollback(&mut self, generation: Option<u64>, mut asked: ChangeRequest) -> Result<Reloaded, Refusal> {
        if self.desired.probation.is_some() && generation.is_none() {
            return self.take_back(asked.reason.as_deref().unwrap_or("asked for"), asked.uid);
        }
        self.refuse_while_guarded()?;
        let in_force = (digest(self.desired.text.as_bytes()), self.desired.overrides.clone());
        let differs = |record: &&Record| {
            record.result == Outcome::Applied && (&record.content, &record.overrides) != (&in_force.0, &in_force.1)
        };
        let record = match generation {
            Some(number) => self.recorded(number)?,
            None => self.desired.history.records().iter().rev().find(differs).ok_or_else(|| {
                Refusal::NotFound("the history has nothing that differs from what is in force".to_owned())
            })?,
        };
        let text = self.desired.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let (number, overrides) = (record.generation, record.overrides.clone());
        asked.command = format!("rollback to generation {number}");
        let before = std::mem::replace(&mut self.desired.overrides, overrides);
        let file = format!("generation {number}");
        let outcome = self.apply(&Proposal::unasked(text, &file, asked));
        if outcome.is_err() {
            self.desired.overrides = before;
        }
        outcome
    }

    fn try_apply(&mut self, proposal: &Proposal, (loaded, found): Linted) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let warnings = self.accepted(&found, proposal)?;
        self.refuse_fixed(&loaded.config)?;
        if let Some(plan) = &proposal.plan {
            let now = self.plan_id(&proposal.text);
            if *plan != now {
                return Err(Refusal::Invalid(format!(
                    "plan {plan} is stale: something has changed since; look at `balancer plan` again (it would be {now})"
                )));
            }
        }
        let (added, removed, changed) = differences(&self.desired.config, &loaded.config);
        let touched: BTreeSet<ServiceName> = added.iter().chain(&changed).cloned().collect();
        // Seed and addresses of the node are part of each service's tables and entries; on probation weights come in steps.
        let all = self.desired.config.node != loaded.config.node || self.desired.probation.is_some();
        let answer = |generation, overrides_ended, guard| {
            let (dry_run, seconds) = (proposal.dry_run, start.elapsed().as_secs_f64());
            Reloaded { generation, added, removed, changed, overrides_ended, warnings, guard, dry_run, seconds }
        };
        if proposal.dry_run {
            return Ok(answer(self.kernel.generation, Vec::new(), None));
        }
        let Loaded { config, .. } = loaded;
        let before = std::mem::replace(&mut self.desired.config, config);
        if let Err(error) = self.attach_interfaces() {
            self.desired.config = before;
            self.detach_unwanted();
            return Err(Refusal::Invalid(error));
        }
        let (overrides, checked) = (self.desired.overrides.clone(), self.observed.checked.clone());
        let overrides_ended = self.end_overrides();
        self.forget_strangers();
        let touched = if all { self.all_services() } else { self.out_of_weight(touched) };
        let change = Change::asked(Trial::FILE, proposal.asked.said());
        let brought = self
            .store
            .save_overrides(&self.desired.overrides)
            .and_then(|()| self.reconcile(touched, change))
            .and_then(|_| self.keep_file(&proposal.text));
        if let Err(error) = brought {
            (self.desired.config, self.desired.overrides, self.observed.checked) = (before, overrides, checked);
            if let Err(error) = self.store.save_overrides(&self.desired.overrides) {
                log::error!("{error:#}");
            }
            self.repair();
            return Err(Refusal::Failed(format!("this was not applied, what ran before runs on: {error:#}")));
        }
        self.detach_unwanted();
        self.desired.text.clone_from(&proposal.text);
        self.desired.warned = warned(&found);
        // One on probation is recorded when that is over.
        if self.desired.probation.is_none() {
            self.record_if_new(proposal.asked.clone());
        }
        Ok(answer(self.kernel.generation, overrides_ended, self.guard()))
    }

    /// Whether what is in force has the same finding about the same.
    pub(crate) fn is_known(&self, finding: &Diagnostic) -> bool {
        self.desired.warned.contains(&(finding.id.to_owned(), finding.subject.clone()))
    }

    /// The warnings that stay, where nothing stops the change.
    fn accepted(&self, found: &Diagnostics, proposal: &Proposal) -> Result<Vec<String>, Refusal> {
        let asked = &proposal.asked;
        asked.check()?;
        let counting: Vec<&Diagnostic> = found.findings.iter().filter(|finding| finding.counts()).collect();
        let taken = |finding: &&&Diagnostic| self.is_known(finding) || asked.accepts(finding.id);
        let new: Vec<&&Diagnostic> = counting.iter().filter(|finding| !taken(finding)).collect();
        if proposal.strict && !new.is_empty() {
            let said: String = new.iter().map(ToString::to_string).collect();
            let ids: BTreeSet<&str> = new.iter().map(|finding| finding.id).collect();
            let ids: Vec<String> = ids.iter().map(|id| format!("--accept {id}")).collect();
            return Err(Refusal::Invalid(format!(
                "{said}this change brings in warnings, so nothing was applied; put right what they say, silence them in \
                 the file, or accept them: {} --reason \"…\"",
                ids.join(" ")
            )));
        }
        for finding in &new {
            log::warn!("{}", said(finding));
        }
        Ok(counting.iter().map(|finding| said(finding)).collect())
    }

    /// The config's file holds what is in force, so that a restart finds it.
    fn keep_file(&self, text: &str) -> anyhow::Result<()> {
        match std::fs::read_to_string(&self.desired.path) {
            Ok(there) if there == text => Ok(()),
            _ => replace_file(&self.desired.path, text),
        }
    }

    /// Adds what is in force to the history. Where that fails the change stays, and the log says so.
    pub(crate) fn record(&mut self, asked: ChangeRequest) {
        self.record_as(asked, Outcome::Applied);
    }

    pub(crate) fn record_as(&mut self, asked: ChangeRequest, result: Outcome) {
        let entry = Entry {
            generation: self.kernel.generation,
            uid: asked.uid,
            command: asked.command,
            reason: asked.reason,
            accepted: asked.accept,
            text: &self.desired.text,
            overrides: self.desired.overrides.clone(),
            result,
        };
        if let Err(error) = self.desired.history.add(entry, self.desired.config.node.history) {
            log::error!("generation {} is in force, but not in the history: {error:#}", self.kernel.generation);
        }
    }

    /// The same where it is another than the last.
    pub(crate) fn record_if_new(&mut self, asked: ChangeRequest) {
        let content = digest(self.desired.text.as_bytes());
        let same = |record: &Record| record.content == content && record.overrides == self.desired.overrides;
        if !self.desired.history.last().is_some_and(same) {
            self.record(asked);
        }
    }

    /// Stands for what is in force and what would be: another text, or anything changed meanwhile, is another id.
    pub(crate) fn plan_id(&self, text: &str) -> String {
        let overrides = serde_json::to_string(&self.desired.overrides).unwrap_or_default();
        let last = self.desired.history.last().map_or("", |record| record.hash.as_str());
        digest(
            format!("{}\n{overrides}\n{last}\n{}", digest(self.desired.text.as_bytes()), digest(text.as_bytes()))
                .as_bytes(),
        )[..16]
            .to_owned()
    }

    /// Settings that are read once, at the start.
    fn refuse_fixed(&self, new: &Config) -> Result<(), Refusal> {
        let (now, new_node) = (&self.desired.config.node, &new.node);
        let fixed = [
            ("node.state_dir", now.state_dir == new_node.state_dir),
            ("node.pin_dir", now.pin_dir == new_node.pin_dir),
            ("node.control_socket", now.control_socket == new_node.control_socket),
            ("node.http_listen", now.http_listen == new_node.http_listen),
            ("node.datapath_log", now.datapath_log == new_node.datapath_log),
            ("node.watch_config", now.watch_config == new_node.watch_config),
            ("limits", self.desired.config.limits == new.limits),
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

/// A valid config without errors that count, and all that linting finds in it.
pub(crate) type Linted = (Loaded, Diagnostics);

/// Reads `text` and holds it against this host.
///
/// # Errors
/// All that is wrong, where anything is an error that the file does not silence.
pub(crate) fn linted(file: &str, text: String, directory: &Path) -> Result<Linted, Diagnostics> {
    let loaded = spec::read(file, text, directory)?;
    let found = loaded.findings(&host::facts());
    if found.count(Severity::Error) > 0 { Err(found) } else { Ok((loaded, found)) }
}

/// The unsilenced warnings of a config.
pub(crate) fn warned(found: &Diagnostics) -> BTreeSet<Warned> {
    let counting = found.findings.iter().filter(|finding| finding.counts());
    counting.map(|finding| (finding.id.to_owned(), finding.subject.clone())).collect()
}

/// A finding on one line.
pub(crate) fn said(finding: &Diagnostic) -> String {
    format!("{}:{}: {} [{}]", finding.file, finding.line, finding.message, finding.id)
}

fn differences(before: &Config, after: &Config) -> (Vec<ServiceName>, Vec<ServiceName>, Vec<ServiceName>) {
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
