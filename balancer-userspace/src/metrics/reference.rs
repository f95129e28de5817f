//! docs/metrics.md is written from what a scrape shows: `UPDATE_GOLDEN=1 cargo test every_metric_is_in_the_reference` writes it
//! again.

use std::fmt::Write;
use std::path::Path;

use super::tests::snapshot;
use super::watch::WatchedBackend;
use super::{Snapshot, encode, families};
use crate::alarm::{Alarm, Subject};
use crate::control::api::{ConfigFinding, Layer};

const HEAD: &str = "\
# Metrics

`http://127.0.0.1:9405/metrics` (`node.http_listen`) has all of them in Prometheus' text format, `/metrics/service/NAME` those of one
service. Counters end in `_total` and never fall, also across restarts of the controller; units are seconds, bytes and ratios;
labels are names of the config, never addresses of clients. Beside these there are the usual `process_` metrics of the controller.
[deploy/alerts.yml](../deploy/alerts.yml) has rules on them, [runbook.md](runbook.md) what to do.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
";

/// One of everything that a scrape can show.
fn whole() -> Snapshot {
    let mut whole = snapshot();
    whole.maps.insert("backends", (1, 2));
    whole.config_applies.insert("ok", 1);
    whole.interfaces.insert("eth0".to_owned(), Some("native"));
    let service = &mut whole.services[0];
    service.events.insert("mss_clamped".to_owned(), 1);
    service.backends[0].check_seconds = Some(0.001);
    let (service, backend) = (service.name.clone(), service.backends[0].name.clone());
    let subject = Subject { service: Some(service.clone()), backend: Some(backend.clone()), entry: None };
    whole.watch.alarms = vec![Alarm {
        alarm: "BalancerTrafficSkewed".to_owned(),
        severity: crate::alarm::Severity::Warning,
        subject,
        summary: String::new(),
        since: String::new(),
        until: None,
    }];
    let finding: ConfigFinding =
        serde_json::from_str(r#"{"id":"BAL016","severity":"warning","service":"web","message":""}"#)
            .unwrap_or_else(|error| panic!("a finding: {error}"));
    let accepted = r#"{"by":"uid 0","at":"","reason":""}"#;
    let accepted = Some(serde_json::from_str(accepted).unwrap_or_else(|error| panic!("an acceptance: {error}")));
    whole.watch.findings = vec![finding.clone(), ConfigFinding { accepted, ..finding }];
    whole.watch.backends = vec![WatchedBackend {
        id: crate::model::BackendId { service, backend },
        skew: 0.2,
        detection_seconds: Some(3.0),
        capacity: Some(1000),
        path_mtu: Some(1400),
    }];
    whole.watch.webhooks.insert("127.0.0.1:9093".to_owned(), (1, 0));
    whole.watch.gaps.insert(Layer::Kernel, 1);
    whole
}

/// Of a sample's line.
fn label_names(line: &str) -> Vec<String> {
    let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
    labels.split("\",").filter_map(|pair| Some(format!("`{}`", pair.split_once('=')?.0))).collect()
}

#[test]
fn every_metric_is_in_the_reference() {
    let whole = whole();
    let without = families(&whole).iter().filter(|family| family.text().is_none()).count();
    assert_eq!(without, 0, "give `whole` a sample of each metric");
    let text = encode(&whole).unwrap();
    let mut wanted = HEAD.to_owned();
    for (at, _) in text.match_indices("# HELP balancer_") {
        let mut lines = text[at..].lines();
        let (name, help) = lines.next().unwrap().trim_start_matches("# HELP ").split_once(' ').unwrap();
        let kind = lines.next().unwrap().rsplit(' ').next().unwrap();
        let labels = label_names(lines.next().unwrap()).join(", ");
        let _ = writeln!(wanted, "| `{name}` | {kind} | {labels} | {help} |");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == wanted, "docs/metrics.md is not what a scrape shows; run this test with UPDATE_GOLDEN=1");
}
