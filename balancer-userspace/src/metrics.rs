//! `/metrics`: what the controller knows, in Prometheus' terms (DESIGN contract: `balancer_*`, base units, config names as labels).

mod watch;

use std::collections::BTreeMap;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};

pub use self::watch::{WatchSample, WatchedBackend};
use crate::control::api::{ServiceStatus, Shares};
use crate::model::{BackendName, ServiceName};

/// Everything one scrape shows, taken at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub services: Vec<ServiceSample>,
    /// Every reason there is, also those at 0.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Map name → entries in use and capacity.
    pub maps: BTreeMap<&'static str, (u64, u64)>,
    /// By result: `ok`, `refused`, `failed`.
    pub config_applies: BTreeMap<&'static str, u64>,
    pub config_last_apply_timestamp_seconds: f64,
    pub generation: u64,
    /// Interface → attached mode (`native`, `generic`) or `None` while it is not attached.
    pub interfaces: BTreeMap<String, Option<&'static str>>,
    pub watch: WatchSample,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSample {
    pub name: ServiceName,
    pub table_size: u32,
    pub open_slots: u32,
    pub flow_table_entries: u64,
    pub flow_table_capacity: u32,
    pub events: BTreeMap<String, u64>,
    pub backends: Vec<BackendSample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BackendSample {
    pub name: BackendName,
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub up: bool,
    pub weight: u32,
    pub effective_weight: u32,
    pub share: Shares,
    pub check_seconds: Option<f64>,
    pub check_failures: u64,
}

impl From<&ServiceStatus> for ServiceSample {
    fn from(service: &ServiceStatus) -> Self {
        let backends = service.backends.iter().map(|backend| BackendSample {
            name: backend.name.clone(),
            packets: backend.packets,
            bytes: backend.bytes,
            new_flows: backend.new_flows,
            up: backend.state.is_up(),
            weight: backend.weight,
            effective_weight: backend.effective_weight,
            share: backend.share,
            check_seconds: backend.check_seconds,
            check_failures: backend.check_failures,
        });
        Self {
            name: service.name.clone(),
            table_size: service.table_size,
            open_slots: service.open_slots,
            flow_table_entries: service.flow_table_entries,
            flow_table_capacity: service.flow_table_capacity,
            events: service.events.clone(),
            backends: backends.collect(),
        }
    }
}

/// The text that a scrape gets.
///
/// # Errors
/// Those of the encoder, which come of a metric without samples or of a bad name.
pub fn encode(snapshot: &Snapshot) -> prometheus::Result<String> {
    let process = Registry::new();
    process.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let mut families = families(snapshot);
    families.extend(process.gather());
    let mut text = Vec::new();
    // Encoded directly: a registry would copy half a million samples once more.
    TextEncoder::new().encode(&families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut families = backend_families(snapshot);
    families.extend(service_families(snapshot));
    families.extend(controller_families(snapshot));
    families.extend(watch::families(&snapshot.watch));
    // A family without samples is an error to the encoder.
    families.retain(|family| !family.get_metric().is_empty());
    families
}

fn backend_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let pairs = || snapshot.services.iter().flat_map(|s| s.backends.iter().map(move |b| (s, b)));
    let each = |value: fn(&BackendSample) -> f64| {
        let sample = move |(s, b): (&ServiceSample, &BackendSample)| {
            (labels(&[("service", s.name.as_str()), ("backend", b.name.as_str())]), value(b))
        };
        pairs().map(sample).collect()
    };
    let timed = pairs().filter_map(|(s, b)| {
        Some((labels(&[("service", s.name.as_str()), ("backend", b.name.as_str())]), b.check_seconds?))
    });
    let shares = pairs().flat_map(|(s, b)| {
        let layer = move |(layer, share): (&str, Option<f64>)| {
            let names = [("service", s.name.as_str()), ("backend", b.name.as_str()), ("layer", layer)];
            share.map(|share| (labels(&names), share))
        };
        layers(&b.share).into_iter().filter_map(layer)
    });
    vec![
        counter("balancer_backend_packets_total", "Packets sent to the backend.", each(|b| b.packets as f64)),
        counter("balancer_backend_bytes_total", "Bytes of IP packets sent to the backend.", each(|b| b.bytes as f64)),
        counter("balancer_backend_new_flows_total", "Flows begun on the backend.", each(|b| b.new_flows as f64)),
        gauge(
            "balancer_backend_up",
            "1 where health lets the backend take flows.",
            each(|b| f64::from(u8::from(b.up))),
        ),
        gauge("balancer_backend_weight", "Weight in force before health and drain.", each(|b| f64::from(b.weight))),
        gauge(
            "balancer_backend_weight_effective",
            "Weight after health, drain and reachability.",
            each(|b| f64::from(b.effective_weight)),
        ),
        gauge("balancer_backend_share_ratio", "Fraction of the service, by layer.", shares.collect()),
        gauge("balancer_backend_check_duration_seconds", "Duration of the last health check.", timed.collect()),
        counter(
            "balancer_backend_check_failures_total",
            "Failed health checks since the controller started.",
            each(|b| b.check_failures as f64),
        ),
    ]
}

fn layers(shares: &Shares) -> [(&'static str, Option<f64>); 5] {
    [
        ("config", shares.config),
        ("effective", shares.effective),
        ("planned", shares.planned),
        ("kernel", shares.kernel),
        ("observed", shares.observed),
    ]
}

fn service_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let each = |value: fn(&ServiceSample) -> f64| {
        let sample = |s: &ServiceSample| (labels(&[("service", s.name.as_str())]), value(s));
        snapshot.services.iter().map(sample).collect()
    };
    let events = snapshot.services.iter().flat_map(|s| {
        let event = |(event, count): (&String, &u64)| {
            (labels(&[("service", s.name.as_str()), ("event", event.as_str())]), *count as f64)
        };
        s.events.iter().map(event)
    });
    let gaps = snapshot.services.iter().flat_map(|service| {
        gaps(service, &snapshot.watch).into_iter().map(move |(from, to, gap)| {
            let names = [("service", service.name.as_str()), ("from", from), ("to", to)];
            (labels(&names), f64::from(u8::from(gap)))
        })
    });
    vec![
        gauge("balancer_share_gap", "1 where the shares of two layers differ.", gaps.collect()),
        gauge(
            "balancer_open_slots",
            "Slots in which flows from before a change may still be about.",
            each(|s| f64::from(s.open_slots)),
        ),
        gauge("balancer_flow_table_entries", "Flows remembered of open slots.", each(|s| s.flow_table_entries as f64)),
        gauge(
            "balancer_flow_table_capacity",
            "Flows that can be remembered.",
            each(|s| f64::from(s.flow_table_capacity)),
        ),
        counter(
            "balancer_service_events_total",
            "What happened to packets of the service beside being forwarded or dropped.",
            events.collect(),
        ),
    ]
}

/// Between each layer and the next: whether any backend's share differs, by more than a slot where a table rounds, and by
/// more than chance where flows are counted.
fn gaps(service: &ServiceSample, watch: &WatchSample) -> [(&'static str, &'static str, bool); 4] {
    let slot = 1.0 / f64::from(service.table_size.max(1));
    let differs = |of: fn(&Shares) -> (Option<f64>, Option<f64>), tolerance: f64| {
        service.backends.iter().any(|backend| {
            let (a, b) = of(&backend.share);
            (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() > tolerance
        })
    };
    let skewed = watch.backends.iter().any(|backend| backend.id.service == service.name && backend.skew != 0.0);
    [
        ("config", "effective", differs(|s| (s.config, s.effective), 1e-9)),
        ("effective", "planned", differs(|s| (s.effective, s.planned), slot)),
        ("planned", "kernel", differs(|s| (s.planned, s.kernel), 0.0)),
        ("kernel", "observed", skewed),
    ]
}

fn controller_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let by = |name: &str, values: Vec<(&str, f64)>| -> Vec<Sample> {
        values.into_iter().map(|(label, value)| (labels(&[(name, label)]), value)).collect()
    };
    let of_maps = |value: fn(&(u64, u64)) -> u64| snapshot.maps.iter().map(|(m, v)| (*m, value(v) as f64)).collect();
    let attached = snapshot.interfaces.iter().map(|(name, mode)| {
        let names = [("interface", name.as_str()), ("mode", mode.unwrap_or("none"))];
        (labels(&names), f64::from(u8::from(mode.is_some())))
    });
    let counts = |map: &BTreeMap<&'static str, u64>| map.iter().map(|(k, v)| (*k, *v as f64)).collect::<Vec<_>>();
    let one = |value: f64| vec![(Vec::new(), value)];
    vec![
        counter(
            "balancer_dropped_packets_total",
            "Packets of services that were not forwarded.",
            by("reason", counts(&snapshot.dropped)),
        ),
        gauge("balancer_map_entries", "Entries in use of a kernel map.", by("map", of_maps(|m| m.0))),
        gauge("balancer_map_capacity", "Entries that a kernel map can hold.", by("map", of_maps(|m| m.1))),
        counter(
            "balancer_config_apply_total",
            "Attempts to apply the config file, by result.",
            by("result", counts(&snapshot.config_applies)),
        ),
        gauge(
            "balancer_config_last_apply_timestamp_seconds",
            "When the config file was last applied.",
            one(snapshot.config_last_apply_timestamp_seconds),
        ),
        gauge("balancer_generation", "Number of the state in force.", one(snapshot.generation as f64)),
        gauge("balancer_interface_attached", "1 where the program is on the interface.", attached.collect()),
        gauge(
            "balancer_build_info",
            "Always 1; the version is a label.",
            vec![(labels(&[("version", env!("CARGO_PKG_VERSION"))]), 1.0)],
        ),
    ]
}

type Sample = (Vec<LabelPair>, f64);

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(name: &str, help: &str, samples: Vec<Sample>) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, samples.into_iter().map(metric).collect())
}

fn gauge(name: &str, help: &str, samples: Vec<Sample>) -> MetricFamily {
    let metric = |(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_gauge(gauge);
        metric
    };
    family(name, help, MetricType::GAUGE, samples.into_iter().map(metric).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let share =
            Shares { config: Some(1.0), effective: Some(1.0), planned: Some(1.0), kernel: Some(0.5), observed: None };
        let backend = BackendSample {
            name: "a".parse().unwrap(),
            packets: 3,
            bytes: 180,
            new_flows: 1,
            up: true,
            weight: 5,
            effective_weight: 5,
            share,
            check_seconds: None,
            check_failures: 0,
        };
        let service = ServiceSample {
            name: "web".parse().unwrap(),
            table_size: 101,
            open_slots: 0,
            flow_table_entries: 0,
            flow_table_capacity: 1,
            events: BTreeMap::new(),
            backends: vec![backend],
        };
        Snapshot { services: vec![service], dropped: [("fragment", 2)].into(), ..Snapshot::default() }
    }

    #[test]
    fn a_scrape_shows_counters_gauges_and_gaps() {
        let text = encode(&snapshot()).unwrap();
        for line in [
            "# TYPE balancer_backend_packets_total counter",
            "# TYPE balancer_backend_up gauge",
            "balancer_backend_packets_total{service=\"web\",backend=\"a\"} 3",
            "balancer_backend_share_ratio{service=\"web\",backend=\"a\",layer=\"kernel\"} 0.5",
            "balancer_share_gap{service=\"web\",from=\"planned\",to=\"kernel\"} 1",
            "balancer_share_gap{service=\"web\",from=\"effective\",to=\"planned\"} 0",
            "balancer_dropped_packets_total{reason=\"fragment\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("layer=\"observed\""), "a share that is not known has no sample");
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
