//! What of one service is most likely not meant.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Kind, Lint};
use crate::model::{CheckKind, Ports, Protocol, Service};
use crate::spec::service::Read;

/// Ports on which servers speak TLS.
const TLS: [u16; 2] = [443, 8443];

/// Whether anybody takes flows, and whether it is enough.
pub(super) fn weights(lint: &Lint<'_>) {
    for (_, (service, read)) in lint.judged() {
        few(lint, service, read);
    }
}

pub(super) fn check(lint: &Lint<'_>) {
    for (number, (service, read)) in lint.all() {
        one_server(lint, number, service, read);
        one_domain(lint, service, read);
        health(lint, service, read);
    }
    overlaps(lint);
}

fn few(lint: &Lint<'_>, service: &Service, read: &Read) {
    let taking = service.backends.iter().filter(|backend| !backend.weight.is_zero()).count();
    let name = &service.name;
    if taking == 0 && !service.backends.is_empty() {
        let message = format!("no backend of {name} would get new flows: its packets would be dropped");
        lint.about_service(
            Kind::AllZero,
            service,
            read.span.clone(),
            message,
            "give a backend a weight, or remove the service",
        );
    } else if service.backends.is_empty() {
        let message = format!("{name} has no backends: its packets would be dropped");
        lint.about_service(Kind::FewBackends, service, read.span.clone(), message, "add [[service.backend]]");
    } else if taking == 1 {
        let message = format!("one backend has all of {name}: nothing takes over where it fails");
        lint.about_service(Kind::FewBackends, service, read.span.clone(), message, "add another backend");
    }
}

/// Under `nat` on different ports, which is no duplicate.
fn one_server(lint: &Lint<'_>, number: usize, service: &Service, read: &Read) {
    let mut first: HashMap<IpAddr, usize> = HashMap::new();
    for (at, backend) in service.backends.iter().enumerate() {
        let before = *first.entry(backend.address).or_insert(at);
        if before != at {
            let span = read.backends[at].address.span.clone();
            let other = &service.backends[before].name;
            let message = format!("{} and {other} are one server: both are at {}", backend.name, backend.address);
            let help = "its shares add up, and both fail at once; name a server once".to_owned();
            lint.about_backend(Kind::SameServer, (number, at), span, message, help);
        }
    }
}

fn one_domain(lint: &Lint<'_>, service: &Service, read: &Read) {
    let mut domains = service.backends.iter().map(|backend| backend.failure_domain.as_deref());
    let Some(Some(domain)) = domains.next() else { return };
    if service.backends.len() > 1 && domains.all(|other| other == Some(domain)) {
        let place = read.backends.first().and_then(|backend| backend.failure_domain.as_ref());
        let span = place.map_or(read.span.clone(), |place| place.span.clone());
        let message = format!("all backends of {} are in the failure domain {domain:?}", service.name);
        lint.about_service(Kind::OneDomain, service, span, message, "put some of them elsewhere");
    }
}

fn health(lint: &Lint<'_>, service: &Service, read: &Read) {
    let check = &service.health;
    let place = || read.health_span.clone().unwrap_or_else(|| read.span.clone());
    let port = check.port.unwrap_or(service.port);
    let (message, help) = match (&check.kind, service.protocol) {
        (CheckKind::None, Protocol::Tcp) => (
            format!("backends of {} are not checked: one that is dead keeps its share", service.name),
            "check by `kind = \"tcp\"` or `\"http\"`",
        ),
        (CheckKind::Tcp, Protocol::Udp | Protocol::Sctp) if check.port.is_none() => (
            format!("{} is {}, but the check opens a TCP connection to its port", service.name, service.protocol),
            "set `service.health.port` to a port where the servers accept TCP",
        ),
        (CheckKind::Http { .. }, Protocol::Udp | Protocol::Sctp) if check.port.is_none() => (
            format!("{} is {}, but the check asks by HTTP on its port", service.name, service.protocol),
            "set `service.health.port` to a port where the servers speak HTTP",
        ),
        (CheckKind::Http { .. }, _) if TLS.contains(&port) => (
            format!("the check asks by plain HTTP on port {port}, where servers usually speak TLS"),
            "set `service.health.port` to a port without TLS, or `kind = \"tcp\"`",
        ),
        _ => return,
    };
    lint.about_service(Kind::HealthCheck, service, place(), message, help);
}

/// A service that takes packets from a wider one.
fn overlaps(lint: &Lint<'_>) {
    // Only on a prefix, or on several ports, a service is wider than any other.
    let is_wide =
        |service: &&Service| service.prefix_len != longest(service) || !matches!(service.ports, Ports::One(_));
    let wide: Vec<&Service> = lint.models.iter().filter(is_wide).collect();
    for (service, read) in lint.services() {
        let wider = wide.iter().find(|other| takes_from(service, other));
        if let (Some(wider), Some(address)) = (wider, &read.address) {
            let message = format!("{} takes packets that {} would get", service.name, wider.name);
            lint.about_service(Kind::Overlap, service, address.span.clone(), message, "the one that says more wins");
        }
    }
}

/// Length of a prefix that is one address.
fn longest(service: &Service) -> u8 {
    if service.address.is_ipv4() { 32 } else { 128 }
}

fn takes_from(service: &Service, wider: &Service) -> bool {
    let prefix = |service: &Service| IpNet::new(service.address, service.prefix_len).ok();
    let (Some(own), Some(around)) = (prefix(service), prefix(wider)) else { return false };
    let ((low, high), (from, to)) = (ends(service.ports), ends(wider.ports));
    let says_more = own.prefix_len() > around.prefix_len() || high - low < to - from;
    service.protocol == wider.protocol && around.contains(&own) && low <= to && from <= high && says_more
}

fn ends(ports: Ports) -> (u16, u16) {
    match ports {
        Ports::One(port) => (port, port),
        Ports::Range(low, high) => (low, high),
        Ports::All => (0, u16::MAX),
    }
}
