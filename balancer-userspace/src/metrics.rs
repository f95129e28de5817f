//! `/metrics`: what the controller knows, in Prometheus' terms. Names begin with `balancer_`, units are base units, labels are
//! config names.

#[cfg(test)]
mod reference;
mod text;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use prometheus::{Encoder, Registry, TextEncoder};

use self::text::{Family, Kind, Sample, counter, gauge, labels};

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
    let mut of_process = Vec::new();
    TextEncoder::new().encode(&process.gather(), &mut of_process)?;
    let of_process = String::from_utf8(of_process).map_err(|error| prometheus::Error::Msg(error.to_string()))?;
    let families = families(snapshot);
    let texts: Vec<&str> = families.iter().filter_map(Family::text).chain([of_process.as_str()]).collect();
    Ok(texts.concat())
}

fn families(snapshot: &Snapshot) -> Vec<Family> {
    let mut families = backend_families(snapshot);
    families.extend(service_families(snapshot));
    families.extend(controller_families(snapshot));
    families.extend(watch::families(&snapshot.watch));
    families
}

fn backend_families(snapshot: &Snapshot) -> Vec<Family> {
    let pairs = || snapshot.services.iter().flat_map(|s| s.backends.iter().map(move |b| (s, b)));
    // Made once for all metrics of a backend.
    let named = |(s, b): (&ServiceSample, _)| {
        let b: &BackendSample = b;
        labels(&[("service", s.name.as_str()), ("backend", b.name.as_str())])
    };
    let all: Vec<(String, &BackendSample)> = pairs().map(|pair| (named(pair), pair.1)).collect();
    let each = |name, help, kind, value: fn(&BackendSample) -> Option<f64>| {
        let mut family = Family::new(name, help, kind);
        for (labels, backend) in &all {
            if let Some(value) = value(backend) {
                family.add(labels, "", value);
            }
        }
        family
    };
    let counter = |name, help, value| each(name, help, Kind::Counter, value);
    let gauge = |name, help, value| each(name, help, Kind::Gauge, value);
    let mut shares = Family::new("balancer_backend_share_ratio", "Fraction of the service, by layer.", Kind::Gauge);
    for (labels, backend) in &all {
        for (layer, share) in layers(&backend.share) {
            if let Some(share) = share {
                shares.add(labels, layer, share);
            }
        }
    }
    vec![
        counter("balancer_backend_packets_total", "Packets sent to the backend.", |b| Some(b.packets as f64)),
        counter("balancer_backend_bytes_total", "Bytes of IP packets sent to the backend.", |b| Some(b.bytes as f64)),
        counter("balancer_backend_new_flows_total", "Flows begun on the backend.", |b| Some(b.new_flows as f64)),
        gauge("balancer_backend_up", "1 where health lets the backend take flows.", |b| {
            Some(f64::from(u8::from(b.up)))
        }),
        gauge("balancer_backend_weight", "Weight in force before health and drain.", |b| Some(f64::from(b.weight))),
        gauge("balancer_backend_weight_effective", "Weight after health, drain and reachability.", |b| {
            Some(f64::from(b.effective_weight))
        }),
        shares,
        gauge("balancer_backend_check_duration_seconds", "Duration of the last health check.", |b| b.check_seconds),
        counter("balancer_backend_check_failures_total", "Failed health checks since the controller started.", |b| {
            Some(b.check_failures as f64)
        }),
    ]
}

/// Each with the label that is added for it.
fn layers(shares: &Shares) -> [(&'static str, Option<f64>); 5] {
    [
        (",layer=\"config\"", shares.config),
        (",layer=\"effective\"", shares.effective),
        (",layer=\"planned\"", shares.planned),
        (",layer=\"kernel\"", shares.kernel),
        (",layer=\"observed\"", shares.observed),
    ]
}

fn service_families(snapshot: &Snapshot) -> Vec<Family> {
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
    let skewed = snapshot.watch.backends.iter().filter(|backend| backend.skew != 0.0);
    let skewed: BTreeSet<&ServiceName> = skewed.map(|backend| &backend.id.service).collect();
    let gaps = snapshot.services.iter().flat_map(|service| {
        gaps(service, skewed.contains(&service.name)).into_iter().map(move |(from, to, gap)| {
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
fn gaps(service: &ServiceSample, skewed: bool) -> [(&'static str, &'static str, bool); 4] {
    let slot = 1.0 / f64::from(service.table_size.max(1));
    let differs = |of: fn(&Shares) -> (Option<f64>, Option<f64>), tolerance: f64| {
        service.backends.iter().any(|backend| {
            let (a, b) = of(&backend.share);
            (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() > tolerance
        })
    };
    [
        ("config", "effective", differs(|s| (s.config, s.effective), 1e-9)),
        ("effective", "planned", differs(|s| (s.effective, s.planned), slot)),
        ("planned", "kernel", differs(|s| (s.planned, s.kernel), 0.0)),
        ("kernel", "observed", skewed),
    ]
}

fn controller_families(snapshot: &Snapshot) -> Vec<Family> {
    let by = |name: &str, values: Vec<(&str, f64)>| -> Vec<Sample> {
        values.into_iter().map(|(label, value)| (labels(&[(name, label)]), value)).collect()
    };
    let of_maps = |value: fn(&(u64, u64)) -> u64| snapshot.maps.iter().map(|(m, v)| (*m, value(v) as f64)).collect();
    let attached = snapshot.interfaces.iter().map(|(name, mode)| {
        let names = [("interface", name.as_str()), ("mode", mode.unwrap_or("none"))];
        (labels(&names), f64::from(u8::from(mode.is_some())))
    });
    let counts = |map: &BTreeMap<&'static str, u64>| map.iter().map(|(k, v)| (*k, *v as f64)).collect::<Vec<_>>();
    let one = |value: f64| vec![(String::new(), value)];
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn snapshot() -> Snapshot {
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
