//! What lint finds in what is in force, as alarms. Values in, values out.

use std::collections::BTreeMap;

use crate::alarm::catalogue;
use crate::alarm::{Raised, Severity, Subject};
use crate::control::api::ConfigFinding;
use crate::spec::{self, Kind};

/// Alarms of one kind that are told one by one; more of them are told as one.
const ONE_BY_ONE: usize = 50;

/// An alarm for each finding that is more than a note and that nobody accepted, as severe as the finding is.
pub(crate) fn raised(findings: &[ConfigFinding]) -> Vec<Raised> {
    let mut by_id: BTreeMap<&str, Vec<&ConfigFinding>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.accepted.is_none()) {
        by_id.entry(&finding.id).or_default().push(finding);
    }
    by_id.values().flat_map(|findings| of_one_kind(findings)).collect()
}

fn of_one_kind(findings: &[&ConfigFinding]) -> Vec<Raised> {
    let Some(first) = findings.first() else { return Vec::new() };
    let Some(severity) = severity(first) else { return Vec::new() };
    let alarm =
        |subject: Subject, summary: String| Raised { severity, ..Raised::new(&catalogue::FINDING, subject, summary) };
    if findings.len() > ONE_BY_ONE {
        let summary = format!("{} and {} more [{}]", first.message, findings.len() - 1, first.id);
        return vec![alarm(Subject::entry(first.id.as_str()), summary)];
    }
    let each = findings.iter().map(|finding| {
        let (service, backend) = (finding.service.clone(), finding.backend.clone());
        let subject = Subject { service, backend, entry: Some(finding.id.clone()) };
        alarm(subject, format!("{} [{}]", finding.message, finding.id))
    });
    each.collect()
}

/// Weights that nothing explains drowned servers for twelve hours: they wake somebody, though they stop no config.
fn severity(finding: &ConfigFinding) -> Option<Severity> {
    match finding.severity {
        spec::Severity::Error => Some(Severity::Critical),
        spec::Severity::Warning if finding.id == Kind::UnexplainedWeights.id() => Some(Severity::Critical),
        spec::Severity::Warning => Some(Severity::Warning),
        spec::Severity::Note => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Acceptance;

    fn finding(kind: Kind, service: &str, backend: Option<&str>) -> ConfigFinding {
        ConfigFinding {
            id: kind.id().to_owned(),
            severity: kind.entry().severity,
            subject: Some(backend.map_or(service.to_owned(), |backend| format!("{service}/{backend}"))),
            service: Some(service.parse().unwrap()),
            backend: backend.map(|name| name.parse().unwrap()),
            message: "it is so".to_owned(),
            accepted: None,
        }
    }

    #[test]
    fn uneven_weights_wake_somebody_and_notes_nobody() {
        let findings = [
            finding(Kind::UnexplainedWeights, "web", None),
            finding(Kind::LargeShare, "web", Some("b0")),
            finding(Kind::OverloadAfterLoss, "web", Some("b0")),
            finding(Kind::UnknownLoad, "web", None),
        ];
        let raised = raised(&findings);
        let said: Vec<_> = raised
            .iter()
            .map(|raised| (raised.subject.entry.as_deref().unwrap(), raised.severity, raised.subject.backend.is_some()))
            .collect();
        let wanted = [
            ("BAL013", Severity::Critical, true),
            ("BAL016", Severity::Critical, false),
            ("BAL019", Severity::Warning, true),
        ];
        assert_eq!(said, wanted);
        assert_eq!(raised[1].summary, "it is so [BAL016]");
    }

    #[test]
    fn what_is_accepted_is_no_alarm_and_a_flood_is_one() {
        let accepted = Acceptance { by: "uid 0".to_owned(), at: String::new(), reason: "so it is".to_owned() };
        let taken = ConfigFinding { accepted: Some(accepted), ..finding(Kind::UnexplainedWeights, "web", None) };
        assert!(raised(&[taken]).is_empty());
        let many: Vec<ConfigFinding> =
            (0..=ONE_BY_ONE).map(|at| finding(Kind::FewBackends, &format!("s{at}"), None)).collect();
        let one = raised(&many);
        assert_eq!((one.len(), one[0].summary.as_str()), (1, "it is so and 50 more [BAL020]"));
        assert_eq!(raised(&many[1..]).len(), ONE_BY_ONE);
    }
}
