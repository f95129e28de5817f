//! What a config must be to come into force, beside valid: fit to what runs now, and with warnings that somebody accepts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::control::api::Reloaded;
use crate::controller::desired::Desired;
use crate::controller::desired::judged::as_bad;
use crate::controller::desired::listed::listed;
use crate::controller::proposal::{Linted, Proposal, judged, linted, said};
use crate::controller::refusal::{Refusal, Unfit};
use crate::history::digest;
use crate::model::{Config, ServiceName};
use crate::moment::Moment;
use crate::spec::{Diagnostic, Diagnostics};

/// Warnings that a refusal says in full.
const MOST_SAID: usize = 100;

impl Desired {
    /// A config that could be in force, and what linting finds in it.
    pub(crate) fn linted(&self, file: &str, text: &str) -> Result<Linted, Refusal> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        linted(file, text.to_owned(), directory).map_err(Refusal::from)
    }

    /// A config that was in force once.
    pub(crate) fn judged_again(&self, file: &str, text: String) -> Result<Linted, Refusal> {
        judged(file, text, self.path.parent().unwrap_or(Path::new(""))).map_err(Refusal::from)
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
        let Some(plan) = plan else { return Ok(()) };
        let now = self.plan_id(text);
        if plan == now {
            return Ok(());
        }
        Err(Refusal::Invalid(format!(
            "plan {plan} is stale: something has changed since; look at `balancer plan` again (it would be {now})"
        )))
    }

    /// Whether what is in force has the same finding about the same.
    pub(crate) fn is_known(&self, finding: &Diagnostic) -> bool {
        let judged = &self.judged;
        judged.file().iter().chain(judged.findings()).any(|known| as_bad(known, finding))
    }

    /// The warnings that stay, where nothing stops the change.
    pub(crate) fn accepted(
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
    pub(crate) fn refuse_fixed(&self, new: &Config) -> Result<(), Refusal> {
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
