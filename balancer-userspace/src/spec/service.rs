//! `[[service]]`, `[service.health]` and `[[service.backend]]`.

use std::net::IpAddr;
use std::time::Duration;

use super::diagnostic::{Kind, Span};
use super::reader::{Placed, Section};
use crate::model::{
    Affinity, Backend, BackendName, CheckKind, Connections, ForwardMode, Guard, Gue, HealthCheck, Jitter, Ports,
    Protocol, Service, ServiceName, TableSize, Weight,
};

pub(super) const SERVICE_KEYS: &[&str] =
    &["name", "protocol", "address", "port", "forward", "affinity", "table_size", "health", "backend"];
pub(super) const HEALTH_KEYS: &[&str] =
    &["kind", "port", "path", "host", "interval", "timeout", "rise", "fall", "jitter"];
pub(super) const BACKEND_KEYS: &[&str] = &["name", "address", "port", "weight"];

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const DEFAULT_WEIGHT: u32 = 100;

/// A service, and the places of what other services may collide with. `model` is absent where a key it needs was wrong.
pub(super) struct Read {
    pub(super) model: Option<Service>,
    pub(super) name: Option<Placed<ServiceName>>,
    pub(super) address: Option<Placed<IpAddr>>,
    pub(super) table_size: Option<Placed<u32>>,
    pub(super) backends: Vec<ReadBackend>,
    pub(super) span: Span,
}

pub(super) struct ReadBackend {
    pub(super) name: Placed<BackendName>,
    pub(super) address: Placed<IpAddr>,
    pub(super) port: Option<Placed<u16>>,
    pub(super) weight: Weight,
}

pub(super) fn services(root: &Section<'_>) -> Vec<Read> {
    root.sections("service", "service", SERVICE_KEYS).iter().map(service).collect()
}

fn service(section: &Section<'_>) -> Read {
    let name = required(section, "name", "\"web\"", |key| section.parsed::<ServiceName>(key, "such as \"web\""));
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let protocol = required(section, "protocol", "\"tcp\"", |key| section.choice(key, &protocols, &["sctp"]));
    let address = required(section, "address", "\"203.0.113.10\"", |key| section.address(key));
    let port = required(section, "port", "443", |key| port(section, key));
    let modes = [("l2", ForwardMode::L2), ("ipip", ForwardMode::Ipip), ("nat", ForwardMode::Nat)];
    let forward = required(section, "forward", "\"ipip\"", |key| section.choice(key, &modes, &["gue"]));
    let affinities = [("flow", Affinity::Flow), ("client", Affinity::Client)];
    let affinity = section.choice("affinity", &affinities, &[]).map_or(Affinity::Flow, |affinity| affinity.value);
    let table_size = section.number("table_size", 2..=u32::MAX);
    let size = match &table_size {
        Some(size) => prime(section, size),
        None => Some(TableSize::DEFAULT),
    };
    let health = section.section("health", "service.health", HEALTH_KEYS);
    let health = match (&health, protocol.as_ref().map(|protocol| protocol.value)) {
        (Some(health), protocol) => health_check(health, protocol),
        (None, Some(Protocol::Tcp)) => default_check(CheckKind::Tcp),
        (None, _) => default_check(CheckKind::None),
    };
    let backends: Vec<ReadBackend> =
        section.sections("backend", "service.backend", BACKEND_KEYS).iter().filter_map(backend).collect();
    let model = || {
        let port = port.as_ref()?.value;
        Some(Service {
            name: name.as_ref()?.value.clone(),
            protocol: protocol.as_ref()?.value,
            address: address.as_ref()?.value,
            prefix_len: if address.as_ref()?.value.is_ipv4() { 32 } else { 128 },
            port,
            ports: Ports::One(port),
            forward: forward.as_ref()?.value,
            gue: Gue::DEFAULT,
            affinity,
            table_size: size?,
            connections: Connections::DEFAULT,
            quic: None,
            mss_clamp: None,
            guard: Guard::default(),
            health,
            backends: backends.iter().map(|backend| backend.model(port)).collect(),
        })
    };
    Read { model: model(), name, address, table_size, backends, span: section.span.clone() }
}

impl ReadBackend {
    fn model(&self, service_port: u16) -> Backend {
        Backend {
            name: self.name.value.clone(),
            address: self.address.value,
            port: self.port.as_ref().map_or(service_port, |port| port.value),
            weight: self.weight,
            server_id: None,
        }
    }
}

/// Reads `key`; a key that isn't there is noted, one that is wrong was noted already.
fn required<T>(section: &Section<'_>, key: &str, example: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if section.has(key) {
        return read(key);
    }
    section.missing(key, example);
    None
}

fn port(section: &Section<'_>, key: &str) -> Option<Placed<u16>> {
    section.number(key, 1..=65_535).map(|number| number.map(|port| u16::try_from(port).unwrap_or(u16::MAX)))
}

fn prime(section: &Section<'_>, size: &Placed<u32>) -> Option<TableSize> {
    let prime = TableSize::new(size.value);
    if prime.is_none() {
        let near = TableSize::at_least(size.value).get();
        let message = format!("`service.table_size` = {} is not a prime up to {}", size.value, TableSize::MAX);
        section.wrong(size.span.clone(), message, format!("write {near}"));
    }
    prime
}

fn default_check(kind: CheckKind) -> HealthCheck {
    HealthCheck {
        kind,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        jitter: Jitter::DEFAULT,
    }
}

fn health_check(section: &Section<'_>, protocol: Option<Protocol>) -> HealthCheck {
    let mut check = default_check(if protocol == Some(Protocol::Udp) { CheckKind::None } else { CheckKind::Tcp });
    let kinds = [("none", 0), ("tcp", 1), ("http", 2)];
    let later = ["https", "udp", "icmp", "dns", "exec", "agent"];
    let kind = section.choice("kind", &kinds, &later).map(|kind| kind.value);
    match kind {
        Some(0) => check.kind = CheckKind::None,
        Some(1) => check.kind = CheckKind::Tcp,
        Some(_) => {
            let path = section.text("path").map_or("/", |path| path.value);
            let host = section.text("host").map(|host| host.value.to_owned());
            check.kind = CheckKind::Http { path: path.to_owned(), host };
        }
        None if !section.has("kind") => section.missing("kind", "\"http\""),
        None => {}
    }
    if let (Some(0 | 1), Some(text)) = (kind, section.text("path").or_else(|| section.text("host"))) {
        section.problems.add(
            Kind::Mismatch,
            text.span,
            "`path` and `host` are for http checks only",
            "remove it, or set `kind = \"http\"`",
        );
    }
    if let Some(path) = section.text("path").filter(|path| !path.value.starts_with('/') || !path.value.is_ascii()) {
        section.wrong(path.span, "`service.health.path` must start with `/` and be ASCII", "such as \"/healthz\"");
    }
    check.port = port(section, "port").map(|port| port.value);
    if let Some(interval) = section.duration("interval") {
        if interval.value < SHORTEST_INTERVAL {
            section.wrong(interval.span, "`service.health.interval` is below 100ms", "write at least \"100ms\"");
        }
        check.interval = interval.value;
    }
    match section.duration("timeout") {
        Some(timeout) if timeout.value > check.interval || timeout.value.is_zero() => {
            let interval = humantime::format_duration(check.interval);
            section.wrong(
                timeout.span,
                "`service.health.timeout` must be above 0 and no longer than the interval",
                format!("the interval is {interval}"),
            );
        }
        Some(timeout) => check.timeout = timeout.value,
        None => check.timeout = check.timeout.min(check.interval),
    }
    check.rise = section.number("rise", 1..=1000).map_or(check.rise, |rise| rise.value);
    check.fall = section.number("fall", 1..=1000).map_or(check.fall, |fall| fall.value);
    if let Some(fraction) = section.fraction("jitter") {
        match Jitter::from_fraction(fraction.value) {
            Some(jitter) => check.jitter = jitter,
            None => section.wrong(fraction.span, "`service.health.jitter` is out of range", "write 0.0 to 0.5"),
        }
    }
    check
}

fn backend(section: &Section<'_>) -> Option<ReadBackend> {
    let name = required(section, "name", "\"web-1\"", |key| section.parsed::<BackendName>(key, "such as \"web-1\""));
    let address = required(section, "address", "\"10.0.0.11\"", |key| section.address(key));
    let port = port(section, "port");
    let weight = section.number("weight", 0..=Weight::MAX).map_or(DEFAULT_WEIGHT, |weight| weight.value);
    Some(ReadBackend { name: name?, address: address?, port, weight: Weight::new(weight)? })
}
