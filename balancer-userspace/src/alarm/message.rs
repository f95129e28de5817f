//! What webhooks are sent.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Alarm;
use super::catalogue;
use crate::model::WebhookFormat;

/// Who sends, and where the runbook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub node: String,
    /// What links to entries of the runbook begin with.
    pub runbook: String,
}

impl Sender {
    /// The entry of an alarm.
    pub fn runbook(&self, alarm: &str) -> String {
        format!("{}#{}", self.runbook, alarm.to_lowercase())
    }

    /// One request's body. `head`: hash of the history's newest record. `expires`: when receivers may take an alarm for over
    /// that they hear no more of.
    pub fn body(
        &self,
        format: WebhookFormat,
        alarms: &[Alarm],
        head: &str,
        now: SystemTime,
        expires: Duration,
    ) -> String {
        let body = match format {
            WebhookFormat::Alertmanager => serde_json::to_string(
                &alarms.iter().map(|a| self.alert(a, head, span(a, now, expires))).collect::<Vec<_>>(),
            ),
            WebhookFormat::Json => serde_json::to_string(&Document {
                node: &self.node,
                history_head: head,
                at: humantime::format_rfc3339_millis(now).to_string(),
                alarms: alarms.iter().map(|alarm| self.entry(alarm)).collect(),
            }),
        };
        // Maps with text for keys are all there is.
        body.unwrap_or_default()
    }

    fn alert<'a>(&'a self, alarm: &'a Alarm, head: &str, (starts_at, ends_at): (String, String)) -> Alert<'a> {
        let subject = &alarm.subject;
        let mut labels = BTreeMap::from([
            ("alertname", alarm.alarm.as_str()),
            ("severity", alarm.severity.as_str()),
            ("node", &self.node),
            ("job", "balancer"),
        ]);
        let named = [
            ("service", subject.service.as_ref().map(|name| name.as_str())),
            ("backend", subject.backend.as_ref().map(|name| name.as_str())),
            ("entry", subject.entry.as_deref()),
        ];
        labels.extend(named.into_iter().filter_map(|(label, value)| Some((label, value?))));
        let title = catalogue::definition(&alarm.alarm).map_or("", |definition| definition.title);
        let annotations = BTreeMap::from([
            ("summary", title.to_owned()),
            ("description", alarm.summary.clone()),
            ("runbook_url", self.runbook(&alarm.alarm)),
            ("history_head", head.to_owned()),
        ]);
        Alert { labels, annotations, starts_at, ends_at }
    }

    fn entry<'a>(&self, alarm: &'a Alarm) -> Entry<'a> {
        let status = if alarm.until.is_some() { "resolved" } else { "firing" };
        Entry { status, alarm, runbook: self.runbook(&alarm.alarm) }
    }
}

/// When an alarm began, and when it ends or may be taken for over. Alertmanager refuses a request with an alert that begins
/// after its end, which a clock that was set back would make of every alarm that lasts: then it began now.
fn span(alarm: &Alarm, now: SystemTime, expires: Duration) -> (String, String) {
    let time = |text: &str| humantime::parse_rfc3339(text).unwrap_or(now);
    let end = alarm.until.as_deref().map_or(now + expires, time);
    let start = time(&alarm.since).min(now).min(end);
    let said = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
    (said(start), said(end))
}

/// Of `POST /api/v2/alerts` (Alertmanager's OpenAPI description, `postableAlert`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
}

#[derive(Serialize)]
struct Document<'a> {
    node: &'a str,
    /// Of the newest record of `balancer history`: whoever keeps it sees later whether the history was made anew.
    history_head: &'a str,
    at: String,
    alarms: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    /// `firing` or `resolved`.
    status: &'static str,
    #[serde(flatten)]
    alarm: &'a Alarm,
    runbook: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::{Severity, Subject};

    fn alarm(until: Option<&str>) -> Alarm {
        Alarm {
            alarm: "BalancerBackendDown".to_owned(),
            severity: Severity::Warning,
            subject: Subject::backend(&"web".parse().unwrap(), &"web-1".parse().unwrap()),
            summary: "connection refused".to_owned(),
            since: "2026-11-21T10:00:00.000Z".to_owned(),
            until: until.map(str::to_owned),
        }
    }

    fn sender() -> Sender {
        Sender { node: "edge-1".to_owned(), runbook: "https://example.com/runbook".to_owned() }
    }

    #[test]
    fn alertmanager_gets_labels_annotations_and_an_end() {
        let body = sender().body(
            WebhookFormat::Alertmanager,
            &[alarm(None), alarm(Some("2026-11-21T10:05:00.000Z"))],
            "5e1f",
            humantime::parse_rfc3339("2026-11-21T10:06:00Z").unwrap(),
            Duration::from_secs(240),
        );
        let alerts: serde_json::Value = serde_json::from_str(&body).unwrap();
        let labels = serde_json::json!({
            "alertname": "BalancerBackendDown", "severity": "warning", "node": "edge-1", "job": "balancer",
            "service": "web", "backend": "web-1"
        });
        assert_eq!(alerts[0]["labels"], labels);
        assert_eq!(alerts[0]["annotations"]["runbook_url"], "https://example.com/runbook#balancerbackenddown");
        assert_eq!(alerts[0]["annotations"]["history_head"], "5e1f");
        assert_eq!(alerts[0]["startsAt"], "2026-11-21T10:00:00.000Z");
        assert_eq!(alerts[0]["endsAt"], "2026-11-21T10:10:00.000Z");
        assert_eq!(alerts[1]["endsAt"], "2026-11-21T10:05:00.000Z");
    }

    #[test]
    fn a_clock_that_was_set_back_silences_no_alarm() {
        // An hour ago by the clock that hangs on the wall, and yet later.
        let now = humantime::parse_rfc3339("2026-11-21T09:00:00Z").unwrap();
        let told = |alarm: &Alarm| span(alarm, now, Duration::from_secs(240));
        let (start, end) = told(&alarm(None));
        assert_eq!((start.as_str(), end.as_str()), ("2026-11-21T09:00:00.000Z", "2026-11-21T09:04:00.000Z"));
        let (start, end) = told(&alarm(Some("2026-11-21T08:59:00.000Z")));
        assert_eq!((start.as_str(), end.as_str()), ("2026-11-21T08:59:00.000Z", "2026-11-21T08:59:00.000Z"));
    }

    #[test]
    fn a_document_says_what_fires_and_what_is_resolved() {
        let alarms = [alarm(None), alarm(Some("2026-11-21T10:05:00.000Z"))];
        let body = sender().body(WebhookFormat::Json, &alarms, "5e1f", SystemTime::UNIX_EPOCH, Duration::ZERO);
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["node"], "edge-1");
        assert_eq!(document["alarms"][0]["status"], "firing");
        assert_eq!(document["alarms"][0]["service"], "web");
        assert_eq!(document["alarms"][1]["status"], "resolved");
        assert_eq!(document["alarms"][1]["until"], "2026-11-21T10:05:00.000Z");
    }
}
