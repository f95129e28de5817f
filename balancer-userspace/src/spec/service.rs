//! `[[service]]`.

use ipnet::IpNet;

use super::backend::{self, ReadBackend};
use super::beside::Beside;
use super::catalogue::Kind;
use super::diagnostic::Span;
use super::forward::{self, Wanted};
use super::guard::{self, ReadGuard};
use super::reader::{Placed, Section};
use super::{amount, connections, health, ports, prefix, quic};
use crate::model::{Affinity, Amount, Fraction, Gate, Ports, Protocol, Service, ServiceName, TableSize};

pub(super) const SERVICE_KEYS: &[&str] = &[
    "name",
    "protocol",
    "address",
    "port",
    "forward",
    "gue",
    "affinity",
    "gate",
    "table_size",
    "connections",
    "quic",
    "mss_clamp",
    "allow",
    "allow_file",
    "deny",
    "deny_file",
    "new_flows_per_second",
    "new_flows_burst",
    "source_new_flows_per_second",
    "source_new_flows_burst",
    "peak",
    "max_share",
    "health",
    "backend",
];

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
/// What is spoken on top of one of them.
const APPLICATIONS: &[(&str, &str)] = &[
    ("http", "tcp"),
    ("https", "tcp"),
    ("http2", "tcp"),
    ("h2", "tcp"),
    ("grpc", "tcp"),
    ("websocket", "tcp"),
    ("tls", "tcp"),
    ("http3", "udp"),
    ("h3", "udp"),
    ("quic", "udp"),
    ("dns", "udp"),
];
const GATES: &[(&str, Gate)] = &[("health", Gate::Health), ("doctor", Gate::Doctor)];
const AFFINITIES: &[(&str, Affinity)] = &[("flow", Affinity::Flow), ("client", Affinity::Client)];

/// A service, and the places of what other services may collide with. `model` is absent where a key it needs was wrong.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) model: Option<Service>,
    pub(super) name: Option<Placed<ServiceName>>,
    pub(super) protocol: Option<Protocol>,
    pub(super) address: Option<Placed<IpNet>>,
    pub(super) ports: Option<Placed<Ports>>,
    pub(super) table_size: Option<Placed<u32>>,
    /// How many prefixes each key adds to the allow and deny lists.
    pub(super) prefixes: Vec<Placed<usize>>,
    pub(super) peak: Option<Placed<Amount>>,
    /// Of the table of the check, where there is one.
    pub(super) health_span: Option<Span>,
    pub(super) backends: Vec<ReadBackend>,
    pub(super) span: Span,
}

/// `beside`: files that it names.
pub(super) fn services(root: &Section<'_>, beside: Beside<'_>) -> Vec<Read> {
    root.sections("service", "service", SERVICE_KEYS).iter().map(|section| service(section, beside)).collect()
}

/// Who writes an application's protocol is told what a layer-4 balancer does with it.
fn protocol(section: &Section<'_>, key: &str) -> Option<Placed<Protocol>> {
    let text = section.text(key)?;
    let said = text.value.to_ascii_lowercase();
    let Some((application, below)) = APPLICATIONS.iter().find(|(name, _)| *name == said) else {
        return section.choice(key, PROTOCOLS, &[]);
    };
    let checked = match *application {
        "http" => "; `health.kind = \"http\"` checks it",
        _ => "",
    };
    let help = format!(
        "write \"{below}\": packets are forwarded as they are, and {} is what the backends speak{checked}",
        application.to_ascii_uppercase()
    );
    section.wrong(text.span, format!("`service.protocol` = {:?} is not a protocol of layer 4", text.value), help);
    None
}

fn service(section: &Section<'_>, beside: Beside<'_>) -> Read {
    let name = section.required("name", "\"web\"", |key| section.parsed::<ServiceName>(key, "such as \"web\""));
    let protocol = section.required("protocol", "\"tcp\"", |key| protocol(section, key));
    let protocol = protocol.map(|protocol| protocol.value);
    let address = section.required("address", "\"203.0.113.10\"", |key| prefix::prefix(section, key));
    let ports = section.required("port", "443", |key| ports::ports(section, key));
    let forward = forward::forward(section);
    let gue = forward::gue(section, forward.as_ref());
    let affinity = section.choice("affinity", AFFINITIES, &[]).map_or(Affinity::Flow, |affinity| affinity.value);
    let gate = section.choice("gate", GATES, &[]).map_or(Gate::Health, |gate| gate.value);
    let table_size = section.number("table_size", 2..=u32::MAX);
    let size = match &table_size {
        Some(size) => prime(section, size),
        None => Some(TableSize::DEFAULT),
    };
    let connections = connections::connections(section, protocol);
    let mss_clamp = mss_clamp(section, protocol);
    let ReadGuard { guard, sizes: prefixes } = guard::guard(section, address.as_ref(), beside);
    let health = health::health(section, protocol, ports.as_ref());
    let health_span = section.span_of("health");
    let peak = amount::amount(section, "peak", "service.peak");
    let max_share = max_share(section);
    let backends = backend::backends(section);
    let quic = quic::quic(section, protocol, &backends);
    let wanted = Wanted {
        forward: forward.as_ref(),
        protocol,
        address: address.as_ref(),
        ports: ports.as_ref(),
        backends: &backends,
    };
    forward::check(&wanted, section.problems);
    let model = || {
        let (prefix, ports) = (address.as_ref()?.value, ports.as_ref()?.value);
        let port = ports::lowest(ports);
        Some(Service {
            name: name.as_ref()?.value.clone(),
            protocol: protocol?,
            address: prefix.addr(),
            prefix_len: prefix.prefix_len(),
            port,
            ports,
            forward: forward.as_ref()?.value,
            gue,
            affinity,
            gate,
            table_size: size?,
            connections,
            quic,
            mss_clamp,
            guard,
            peak: peak.as_ref().map_or(Amount::default(), |peak| peak.value),
            max_share,
            health,
            backends: backends.iter().map(|backend| backend.model(port)).collect(),
        })
    };
    let model = model();
    let span = section.span.clone();
    Read { model, name, protocol, address, ports, table_size, prefixes, peak, health_span, backends, span }
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

fn max_share(section: &Section<'_>) -> Fraction {
    let Some(share) = section.fraction("max_share") else { return Fraction::HALF };
    Fraction::new(share.value).filter(|fraction| fraction.get() > 0.0).unwrap_or_else(|| {
        section.wrong(share.span, "`service.max_share` is out of range", "write 0.001 to 1.0");
        Fraction::HALF
    })
}

fn mss_clamp(section: &Section<'_>, protocol: Option<Protocol>) -> Option<u16> {
    let clamp = section.number("mss_clamp", 536..=9000)?;
    if let Some(other) = protocol.filter(|protocol| *protocol != Protocol::Tcp) {
        let message = format!("`service.mss_clamp` is for tcp; {other} has no segment size to offer");
        section.problems.add(Kind::Mismatch, clamp.span, message, "remove it");
    }
    u16::try_from(clamp.value).ok()
}
