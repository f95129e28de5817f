//! What commands bring in is held against the findings that were there before.

use std::collections::BTreeSet;

use crate::controller::desired::Desired;
use crate::controller::desired::judged::brought_in;
use crate::controller::proposal::ChangeRequest;
use crate::controller::refusal::Refusal;
use crate::model::{Backend, BackendId, Config, Service, ServiceName, Weight};
use crate::spec::lint::Concerned;
use crate::spec::{Diagnostic, Severity, Written};

/// What is found about the services that a command concerns: in file and commands, and in what health leaves of that.
pub(crate) struct Found {
    pub(crate) ordered: Vec<Diagnostic>,
    pub(crate) left: Vec<Diagnostic>,
}

impl Desired {
    /// The weight that file and commands give a backend; 0 where it is drained.
    pub(crate) fn ordered(&self, service: &Service, backend: &Backend) -> Weight {
        let Some(set) = self.overrides.get(&service.id_of(backend)) else { return backend.weight };
        if set.drained {
            return Weight::ZERO;
        }
        // A command's weight ends where the file's becomes another.
        let weight = set.weight.filter(|_| set.file_weight == backend.weight.get());
        weight.and_then(Weight::new).unwrap_or(backend.weight)
    }

    /// What is found in a config with the commands in force, where `file` is found in it alone.
    pub(crate) fn with_commands(
        &self,
        written: &Written,
        config: &Config,
        text: &str,
        file: &[Diagnostic],
    ) -> Vec<Diagnostic> {
        let set: BTreeSet<&ServiceName> = self.overrides.keys().map(|id| &id.service).collect();
        if set.is_empty() {
            return file.to_vec();
        }
        let concerned = Concerned::of(config, |service| set.contains(&service.name));
        let part = written.reweighing(config, text, &concerned);
        part.replaced(file.to_vec(), part.findings(|service, backend| self.ordered(service, backend)))
    }

    /// Refuses what a command brings in, as `apply` would: errors, and where the config says so warnings. Answers the warnings
    /// that it brings in all the same.
    pub(crate) fn refuse_brought_in(
        &self,
        what: &str,
        id: &BackendId,
        asked: &ChangeRequest,
        before: &Found,
        after: &Found,
    ) -> Result<Vec<String>, Refusal> {
        let mut new = brought_in(&before.ordered, &after.ordered);
        // Who is down for a while makes shares large and services small; that is no reason for a warning about weights.
        let errors = brought_in(&before.left, &after.left).into_iter().filter(|f| f.severity == Severity::Error);
        for finding in errors {
            if !new.iter().any(|there| (there.id, &there.subject) == (finding.id, &finding.subject)) {
                new.push(finding);
            }
        }
        new.retain(|finding| !asked.accepts(finding.id));
        new.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let least = if self.config.node.lint.strict_commands { Severity::Warning } else { Severity::Error };
        if new.iter().all(|finding| finding.severity < least) {
            return Ok(new.iter().map(|finding| one_line(finding)).collect());
        }
        let said: String =
            new.iter().map(|finding| format!("{}: {}\n", finding.severity.as_str(), one_line(finding))).collect();
        let refusing = new.iter().filter(|finding| finding.severity >= least);
        let ids: BTreeSet<&str> = refusing.map(|finding| finding.id).collect();
        let ids: Vec<String> = ids.iter().map(|id| format!("--accept {id}")).collect();
        Err(Refusal::Invalid(format!(
            "{what} of {id} was not applied:\n{said}put right what they say, or accept them: {} --reason \"…\"",
            ids.join(" ")
        )))
    }
}

/// Without its place in the file, which a command is not in.
fn one_line(finding: &Diagnostic) -> String {
    format!("{} [{}]", finding.message, finding.id)
}
