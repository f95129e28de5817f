//! What the controller's own watching found: gaps, skew, alarms, and whether webhooks hear of them.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{Family, Sample, counter, gauge, labels};
use crate::alarm::Alarm;
use crate::control::api::{ConfigFinding, Layer};
use crate::model::BackendId;

/// Taken at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchSample {
    pub cycles: u64,
    /// Unix time.
    pub last_timestamp_seconds: f64,
    pub duration_seconds: f64,
    /// Entries that differ now, by the layer that is wrong.
    pub gaps: BTreeMap<Layer, u64>,
    /// All that were found so far.
    pub gaps_total: BTreeMap<Layer, u64>,
    pub healed_total: u64,
    pub config_refused: bool,
    pub alarms: Vec<Alarm>,
    /// What lint finds in what is in force.
    pub findings: Vec<ConfigFinding>,
    pub backends: Vec<WatchedBackend>,
    /// By webhook: requests that arrived, and that did not.
    pub webhooks: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WatchedBackend {
    pub id: BackendId,
    /// Of the planned share, such as 0.2 for a fifth more; 0 where nothing is found.
    pub skew: f64,
    /// When a fifth more than planned would show.
    pub detection_seconds: Option<f64>,
    /// New flows a second that it declares to take.
    pub capacity: Option<u64>,
    /// Bytes of IP packets, outer headers included, that routers let through; absent where the link takes no more.
    pub path_mtu: Option<u32>,
}

/// Layers that are read back whole; shares have a metric of their own.
const READ_BACK: [Layer; 3] = [Layer::Kernel, Layer::Program, Layer::File];

pub(super) fn families(sample: &WatchSample) -> Vec<Family> {
    let by_layer = |counts: &BTreeMap<Layer, u64>| -> Vec<Sample> {
        let of = |layer: Layer| counts.get(&layer).copied().unwrap_or(0) as f64;
        READ_BACK.iter().map(|layer| (labels(&[("layer", layer.as_str())]), of(*layer))).collect()
    };
    let one = |value: f64| vec![(String::new(), value)];
    let alarms = sample.alarms.iter().map(|alarm| {
        let subject = &alarm.subject;
        let names = [
            ("alarm", alarm.alarm.as_str()),
            ("severity", alarm.severity.as_str()),
            ("service", subject.service.as_ref().map_or("", |name| name.as_str())),
            ("backend", subject.backend.as_ref().map_or("", |name| name.as_str())),
            ("entry", subject.entry.as_deref().unwrap_or("")),
        ];
        (labels(&names), 1.0)
    });
    let each = |value: fn(&WatchedBackend) -> Option<f64>| -> Vec<Sample> {
        let named = |backend: &WatchedBackend| {
            let id = &backend.id;
            let names = [("service", id.service.as_str()), ("backend", id.backend.as_str())];
            value(backend).map(|value| (labels(&names), value))
        };
        sample.backends.iter().filter_map(named).collect()
    };
    let deliveries = sample.webhooks.iter().flat_map(|(webhook, (done, failed))| {
        let of = |result, count: &u64| (labels(&[("webhook", webhook), ("result", result)]), *count as f64);
        [of("ok", done), of("failed", failed)]
    });
    vec![
        gauge(
            "balancer_gap_entries",
            "What is not as planned: map entries read back, programs attached, the config file.",
            by_layer(&sample.gaps),
        ),
        counter("balancer_gaps_total", "Entries found that were not as planned.", by_layer(&sample.gaps_total)),
        counter("balancer_healed_total", "Entries that were put right.", one(sample.healed_total as f64)),
        counter("balancer_verify_cycles_total", "Comparisons with what was planned.", one(sample.cycles as f64)),
        gauge("balancer_verify_duration_seconds", "Duration of the last comparison.", one(sample.duration_seconds)),
        gauge("balancer_verify_last_timestamp_seconds", "When it was made.", one(sample.last_timestamp_seconds)),
        gauge(
            "balancer_config_refused",
            "1 where the last reload was refused: what runs is older than the file.",
            one(f64::from(u8::from(sample.config_refused))),
        ),
        gauge("balancer_alarm_active", "1 for each alarm of the controller's own.", alarms.collect()),
        gauge(
            "balancer_config_finding",
            "1 for what lint finds in the config and the commands in force, and nobody accepted.",
            findings(&sample.findings, false),
        ),
        gauge(
            "balancer_config_finding_accepted",
            "1 for what lint finds there and somebody accepted.",
            findings(&sample.findings, true),
        ),
        gauge(
            "balancer_backend_skew_ratio",
            "How much more (or less) new flows than planned, where chance is ruled out; else 0.",
            each(|backend| Some(backend.skew)),
        ),
        gauge(
            "balancer_backend_skew_detection_seconds",
            "Time after which a fifth more than planned would show at the present rate.",
            each(|backend| backend.detection_seconds),
        ),
        gauge(
            "balancer_backend_capacity_new_flows_per_second",
            "What the server declares to take, of all its services together.",
            each(|backend| backend.capacity.map(|capacity| capacity as f64)),
        ),
        gauge(
            "balancer_path_mtu_bytes",
            "Largest IP packet to the backend, outer headers included, while a router asks for less than the link takes.",
            each(|backend| backend.path_mtu.map(f64::from)),
        ),
        counter("balancer_webhook_deliveries_total", "Requests to webhooks.", deliveries.collect()),
    ]
}

/// Several backends of a service are one.
fn findings(findings: &[ConfigFinding], accepted: bool) -> Vec<Sample> {
    let of = findings.iter().filter(|finding| finding.accepted.is_some() == accepted);
    let named: BTreeSet<(&str, &str, &str)> = of
        .map(|finding| {
            let service = finding.service.as_ref().map_or("", |name| name.as_str());
            (finding.id.as_str(), finding.severity.as_str(), service)
        })
        .collect();
    let sample = |(id, severity, service)| (labels(&[("id", id), ("severity", severity), ("service", service)]), 1.0);
    named.into_iter().map(sample).collect()
}
