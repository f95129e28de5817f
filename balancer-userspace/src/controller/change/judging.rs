//! The findings in what is in force are brought up to date.

use crate::controller::desired::judged::Word;
use crate::controller::desired::judging::Found;
use crate::controller::desired::overrides::now;
use crate::controller::proposal::ChangeRequest;
use crate::controller::state::State;
use crate::model::{Backend, Service, Weight};
use crate::spec::Diagnostic;
use crate::spec::lint::Concerned;

impl State {
    /// What is left of it where the backend takes no flows.
    fn ordered_and_taken(&self, service: &Service, backend: &Backend) -> Weight {
        let takes =
            !self.effective(service, backend).weight.is_zero() || self.desired.weight(service, backend).is_zero();
        if takes { self.desired.ordered(service, backend) } else { Weight::ZERO }
    }

    /// What is found now where only the weights of a service may have changed.
    pub(crate) fn found(&self, concerned: &Concerned) -> Found {
        let desired = &self.desired;
        let part = desired.judged.written.reweighing(&desired.config, &desired.text, concerned);
        Found {
            ordered: part.findings(|service, backend| self.desired.ordered(service, backend)),
            left: part.findings(|service, backend| self.ordered_and_taken(service, backend)),
        }
    }

    /// The config in force was read anew, or the controller starts.
    pub(crate) fn judge_all(&mut self) {
        let (desired, judged) = (&self.desired, &self.desired.judged);
        let findings = self.desired.with_commands(&judged.written, &desired.config, &desired.text, judged.file());
        self.judge(findings, &ChangeRequest::default(), |_| false);
    }

    /// These are the findings in what is in force now; whoever asked for the change accepts those of them that `about` holds for.
    pub(crate) fn judge(
        &mut self,
        findings: Vec<Diagnostic>,
        asked: &ChangeRequest,
        about: impl Fn(&Diagnostic) -> bool,
    ) {
        let word = |finding: &Diagnostic| {
            let reason = asked.reason.clone().filter(|_| asked.accepts(finding.id) && about(finding))?;
            Some(Word { by_uid: asked.uid.unwrap_or(0), at: now(), reason })
        };
        // What a guarded change goes back to is not to be accepted once more.
        let keep = self.desired.probation.is_some();
        if self.desired.judged.set(findings, word, keep) {
            self.store.keep_accepted(self.desired.judged.accepted());
        }
    }
}
