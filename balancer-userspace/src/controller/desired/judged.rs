//! What lint finds in what is in force: the file and what commands set over it, taken together. It is worked out anew
//! whenever one of them changes. What somebody accepted stays accepted until it is gone or gets worse.

use crate::control::api::{Acceptance, ConfigFinding};
use crate::model::Config;
use crate::spec::lint::Concerned;
use crate::spec::{Diagnostic, Kind, Severity, Written};
use crate::state::Accepted;

/// Rounding is no worsening.
const SAME: f64 = 1e-6;

fn covers(accepted: &Accepted, finding: &Diagnostic) -> bool {
    let same = accepted.id == finding.id && accepted.subject == finding.subject;
    same && finding.degree <= accepted.degree * (1.0 + SAME)
}

/// Who accepts a finding, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Word {
    pub(crate) by_uid: u32,
    pub(crate) at: String,
    pub(crate) reason: String,
}

/// What is found, and where everything stands that it is found in.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Of the config in force.
    pub(crate) written: Written,
    /// In the file by itself.
    file: Vec<Diagnostic>,
    /// In file and commands together.
    findings: Vec<Diagnostic>,
    /// The same for status, metrics and alarms, which ask often.
    told: Vec<ConfigFinding>,
    accepted: Vec<Accepted>,
}

impl Judged {
    /// With what was accepted before the start.
    pub(crate) fn new(written: Written, file: Vec<Diagnostic>, accepted: Vec<Accepted>) -> Self {
        Self { written, findings: file.clone(), file, told: Vec::new(), accepted }
    }

    /// Another file is in force. Answers what was known of the one before.
    pub(crate) fn follow(&mut self, written: Written, file: Vec<Diagnostic>) -> (Written, Vec<Diagnostic>) {
        (std::mem::replace(&mut self.written, written), std::mem::replace(&mut self.file, file))
    }

    pub(crate) fn file(&self) -> &[Diagnostic] {
        &self.file
    }

    pub(crate) fn findings(&self) -> &[Diagnostic] {
        &self.findings
    }

    /// These are the findings now. `accept` says who accepts which of them; `keep` remembers also what was accepted and is gone,
    /// because it may come back. Answers whether anything of what is accepted changed.
    pub(crate) fn set(
        &mut self,
        findings: Vec<Diagnostic>,
        accept: impl Fn(&Diagnostic) -> Option<Word>,
        keep: bool,
    ) -> bool {
        let before = self.accepted.clone();
        let there = |accepted: &Accepted| findings.iter().any(|finding| covers(accepted, finding));
        self.accepted.retain(|accepted| keep || there(accepted));
        for finding in findings.iter().filter(|finding| finding.counts()) {
            if self.accepted.iter().any(|accepted| covers(accepted, finding)) {
                continue;
            }
            if let Some(Word { by_uid, at, reason }) = accept(finding) {
                let (id, subject, degree) = (finding.id.to_owned(), finding.subject.clone(), finding.degree);
                self.accepted.push(Accepted { id, subject, degree, by_uid, at, reason });
            }
        }
        self.findings = findings;
        self.told = self.findings.iter().map(|finding| self.told_of(finding)).collect();
        self.accepted != before
    }

    /// The findings with those about some services replaced by what is found about them with other weights. They are given back
    /// with `set`.
    pub(crate) fn replaced(
        &mut self,
        config: &Config,
        text: &str,
        concerned: &Concerned,
        found: Vec<Diagnostic>,
    ) -> Vec<Diagnostic> {
        let part = self.written.reweighing(config, text, concerned);
        part.replaced(std::mem::take(&mut self.findings), found)
    }

    pub(crate) fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    pub(crate) fn in_force(&self) -> &[ConfigFinding] {
        &self.told
    }

    fn told_of(&self, finding: &Diagnostic) -> ConfigFinding {
        let silenced = finding.silenced.clone();
        let silenced = silenced.map(|reason| Acceptance { by: "file".to_owned(), at: String::new(), reason });
        let by_command = || self.accepted.iter().find(|accepted| covers(accepted, finding));
        let (service, backend) = finding.about();
        ConfigFinding {
            id: finding.id.to_owned(),
            severity: finding.severity,
            subject: finding.subject.clone(),
            service: service.and_then(|name| name.parse().ok()),
            backend: backend.and_then(|name| name.parse().ok()),
            message: finding.message.clone(),
            accepted: silenced.or_else(|| by_command().map(acceptance)),
        }
    }

    /// Identifiers for a record of the history: what is more than a note, each once.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<&str> = self
            .findings
            .iter()
            .filter(|finding| finding.severity > Severity::Note)
            .map(|finding| finding.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(str::to_owned).collect()
    }
}

fn acceptance(accepted: &Accepted) -> Acceptance {
    let Accepted { by_uid, at, reason, .. } = accepted;
    Acceptance { by: format!("uid {by_uid}"), at: at.clone(), reason: reason.clone() }
}

/// Those of `after` that nothing in `before` is as bad as.
pub(crate) fn brought_in<'a>(before: &[Diagnostic], after: &'a [Diagnostic]) -> Vec<&'a Diagnostic> {
    let new = |finding: &&Diagnostic| finding.counts() && !before.iter().any(|known| as_bad(known, finding));
    after.iter().filter(new).collect()
}

/// Whether a finding was there before, or a worse one about the same.
pub(crate) fn as_bad(known: &Diagnostic, finding: &Diagnostic) -> bool {
    let loads = |finding: &Diagnostic| ("BAL012"..="BAL015").contains(&finding.id);
    let same = known.id == finding.id && finding.degree <= known.degree * (1.0 + SAME);
    // Of what a server gets, identifiers are in the order of badness.
    let worse = loads(known) && loads(finding) && known.id < finding.id;
    let worse = worse || (known.id == Kind::AllZero.id() && finding.id == Kind::FewBackends.id());
    known.counts() && known.subject == finding.subject && (same || worse)
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    fn finding(kind: Kind, degree: f64) -> Diagnostic {
        Diagnostic {
            id: kind.id(),
            severity: kind.entry().severity,
            file: "f.toml".to_owned(),
            line: 1,
            column: 1,
            message: String::new(),
            help: String::new(),
            silenced: None,
            subject: Some("web/b0".to_owned()),
            source: String::new(),
            width: 1,
            degree,
        }
    }

    fn by(reason: &str) -> Option<Word> {
        Some(Word { reason: reason.to_owned(), ..Word::default() })
    }

    fn accepted(judged: &Judged) -> Vec<bool> {
        judged.in_force().iter().map(|finding| finding.accepted.is_some()).collect()
    }

    #[test]
    fn an_acceptance_lasts_until_the_finding_goes_or_gets_worse() {
        let mut judged = Judged::default();
        let uneven = |degree| vec![finding(Kind::UnexplainedWeights, degree)];
        assert!(!judged.set(uneven(2.0), |_| None, false));
        assert_eq!(accepted(&judged), [false]);
        assert!(judged.set(uneven(2.0), |_| by("a"), false));
        // Of another change, and less bad: nobody needs to say it again.
        assert!(!judged.set(uneven(1.5), |_| None, false));
        assert_eq!(accepted(&judged), [true]);
        assert!(judged.set(uneven(18.0), |_| None, false));
        assert_eq!(accepted(&judged), [false]);
        judged.set(uneven(18.0), |_| by("b"), false);
        judged.set(Vec::new(), |_| None, false);
        judged.set(uneven(2.0), |_| None, false);
        assert_eq!(accepted(&judged), [false], "what comes again is not what was accepted");
    }

    #[test]
    fn what_may_come_back_stays_accepted() {
        let mut judged = Judged::default();
        judged.set(vec![finding(Kind::LargeShare, 0.9)], |_| by("a"), false);
        judged.set(Vec::new(), |_| None, true);
        judged.set(vec![finding(Kind::LargeShare, 0.9)], |_| None, false);
        assert_eq!(accepted(&judged), [true]);
    }

    #[test]
    fn a_silence_is_an_acceptance_of_the_file() {
        let mut judged = Judged::default();
        let silenced = Diagnostic { silenced: Some("old".to_owned()), ..finding(Kind::UnexplainedWeights, 2.0) };
        judged.set(vec![silenced], |_| by("never asked"), false);
        let told = judged.in_force()[0].accepted.clone().unwrap();
        assert_eq!((told.by.as_str(), told.reason.as_str()), ("file", "old"));
        assert!(judged.accepted().is_empty());
        assert_eq!(judged.ids(), ["BAL016"]);
    }

    #[test]
    fn less_of_what_was_there_is_not_brought_in() {
        let brought = |before: &Diagnostic, after: &Diagnostic| brought_in(from_ref(before), from_ref(after)).len();
        let both = |a: &Diagnostic, b: &Diagnostic| (brought(a, b), brought(b, a));
        let (much, less) = (finding(Kind::Overload, 1.8), finding(Kind::Overload, 1.5));
        assert_eq!(both(&much, &less), (0, 1));
        // An overload relieved to one after a loss.
        let after_loss = finding(Kind::OverloadAfterLoss, 1.2);
        assert_eq!(both(&much, &after_loss), (0, 1));
        let (nobody, one) = (finding(Kind::AllZero, 0.0), finding(Kind::FewBackends, 0.0));
        assert_eq!(both(&nobody, &one), (0, 1));
        assert!(brought_in(&[], &[finding(Kind::UnknownLoad, 0.0)]).is_empty(), "a note");
    }
}
