//! What must fit together: names, addresses, limits, forwarding modes.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::diagnostic::{Kind, Problems, Span};
use super::service::{Read, ReadBackend};
use crate::model::{ForwardMode, Limits, Protocol, Service};

pub(super) fn check(limits: &Limits, services: &[Read], problems: &Problems<'_>) {
    counts(limits, services, problems);
    unique_services(services, problems);
    for service in services {
        unique_backends(service, problems);
        if let Some(model) = &service.model {
            forwarding(model, service, problems);
        }
    }
    addresses(services, problems);
    replies(services, problems);
}

/// Values seen, and where first.
struct Seen<K>(HashMap<K, Span>);

impl<K: Eq + Hash> Seen<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// The line on which the value stood before.
    fn before(&mut self, value: K, span: &Span, problems: &Problems<'_>) -> Option<usize> {
        use std::collections::hash_map::Entry;
        match self.0.entry(value) {
            Entry::Occupied(entry) => Some(problems.line(entry.get())),
            Entry::Vacant(entry) => {
                entry.insert(span.clone());
                None
            }
        }
    }
}

fn counts(limits: &Limits, services: &[Read], problems: &Problems<'_>) {
    let over = |span: Span, setting: &str, limit: u32, found: usize, what: &str| {
        if found > limit as usize {
            let message = format!("the file has {found} {what}, more than `{setting}` = {limit}");
            problems.add(Kind::Limit, span, message, format!("raise `{setting}` or remove some"));
        }
    };
    let last = || services.last().map_or(0..0, |service| service.span.clone());
    over(last(), "limits.services", limits.services, services.len(), "services");
    let backends = services.iter().map(|service| service.backends.len()).sum();
    over(last(), "limits.backends", limits.backends, backends, "backends");
    for size in services.iter().filter_map(|service| service.table_size.as_ref()) {
        if size.value > limits.table_size {
            let message =
                format!("`service.table_size` = {} is above `limits.table_size` = {}", size.value, limits.table_size);
            problems.add(Kind::Limit, size.span.clone(), message, "lower it or raise `limits.table_size`");
        }
    }
}

fn unique_services(services: &[Read], problems: &Problems<'_>) {
    let (mut names, mut vips) = (Seen::new(), Seen::new());
    for service in services {
        if let Some(name) = &service.name
            && let Some(line) = names.before(&name.value, &name.span, problems)
        {
            let message = format!("there are two services {:?}", name.value);
            problems.add(
                Kind::Duplicate,
                name.span.clone(),
                message,
                format!("rename one; the first is on line {line}"),
            );
        }
        let (Some(model), Some(address)) = (&service.model, &service.address) else { continue };
        let vip = (model.address, model.port, model.protocol);
        if let Some(line) = vips.before(vip, &address.span, problems) {
            let message = format!("two services are on {} {} port {}", model.protocol, model.address, model.port);
            let help = format!("change address, port or protocol; the first is on line {line}");
            problems.add(Kind::Duplicate, address.span.clone(), message, help);
        }
    }
}

fn unique_backends(service: &Read, problems: &Problems<'_>) {
    let (mut names, mut places) = (Seen::new(), Seen::new());
    let by_port = service.model.as_ref().is_some_and(|model| model.forward == ForwardMode::Nat);
    for backend in &service.backends {
        let ReadBackend { name, address, port, .. } = backend;
        if let Some(line) = names.before(&name.value, &name.span, problems) {
            let message = format!("there are two backends {:?} in this service", name.value);
            problems.add(
                Kind::Duplicate,
                name.span.clone(),
                message,
                format!("rename one; the first is on line {line}"),
            );
        }
        let port = port.as_ref().filter(|_| by_port).map(|port| port.value);
        if let Some(line) = places.before((address.value, port), &address.span, problems) {
            let message = format!("two backends of this service are at {}", address.value);
            let help = format!("remove one and add up the weights; the first is on line {line}");
            problems.add(Kind::Duplicate, address.span.clone(), message, help);
        }
    }
}

/// What a forwarding mode can't do.
fn forwarding(model: &Service, service: &Read, problems: &Problems<'_>) {
    for backend in &service.backends {
        let ReadBackend { address, port, .. } = backend;
        if model.forward == ForwardMode::Nat && address.value.is_ipv4() != model.address.is_ipv4() {
            problems.add(
                Kind::Mismatch,
                address.span.clone(),
                format!("`nat` can't send from {} to {}, an address of the other family", model.address, address.value),
                "give the backend an address of the service's family, or use `forward = \"ipip\"`",
            );
        }
        let Some(port) = port else { continue };
        if model.forward != ForwardMode::Nat && port.value != model.port {
            problems.add(
                Kind::Mismatch,
                port.span.clone(),
                format!("`l2` and `ipip` deliver to the service's port {}, not to {}", model.port, port.value),
                "remove `port`, or use `forward = \"nat\"`; a check's port is `service.health.port`",
            );
        }
    }
}

/// Addresses that packets can't be sent to, and VIPs that are backends.
fn addresses(services: &[Read], problems: &Problems<'_>) {
    let mut vips: HashMap<IpAddr, &Span> = HashMap::new();
    for address in services.iter().filter_map(|service| service.address.as_ref()) {
        unusable(address.value, &address.span, problems);
        vips.entry(address.value).or_insert(&address.span);
    }
    for address in services.iter().flat_map(|service| &service.backends).map(|backend| &backend.address) {
        unusable(address.value, &address.span, problems);
        if let Some(vip) = vips.get(&address.value) {
            problems.add(
                Kind::Address,
                address.span.clone(),
                format!("{} is the address of a service (line {}) and of a backend", address.value, problems.line(vip)),
                "give the backend's own address, not the one that clients use",
            );
        }
    }
}

fn unusable(address: IpAddr, span: &Span, problems: &Problems<'_>) {
    let mapped = |v6: std::net::Ipv6Addr| v6.to_ipv4_mapped();
    let what = match address {
        _ if address.is_unspecified() => "is no address of anybody",
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is a link-local address",
        IpAddr::V6(v6) if mapped(v6).is_some() => "is an IPv4 address in IPv6 form",
        _ => return,
    };
    let help = match address {
        IpAddr::V6(v6) => mapped(v6).map(|v4| format!("write {:?}", v4.to_string())),
        IpAddr::V4(_) => None,
    };
    let help = help.unwrap_or_else(|| "write a unicast address that packets can be routed to".to_owned());
    problems.add(Kind::Address, span.clone(), format!("{address} {what}"), help);
}

/// Replies under `nat` are recognised by the address, port and protocol they come from: these must name one service.
fn replies(services: &[Read], problems: &Problems<'_>) {
    let mut seen: Seen<(IpAddr, u16, Protocol)> = Seen::new();
    for service in services {
        let Some(model) = service.model.as_ref().filter(|model| model.forward == ForwardMode::Nat) else { continue };
        let mut own = std::collections::HashSet::new();
        for (backend, read) in model.backends.iter().zip(&service.backends) {
            let from = (backend.address, backend.port, model.protocol);
            // Twice in one service is a duplicate, which is said already.
            if !own.insert(from) {
                continue;
            }
            if let Some(line) = seen.before(from, &read.address.span, problems) {
                let message = format!(
                    "{} {} port {} is a backend of two `nat` services, so its replies can't be told apart",
                    model.protocol, backend.address, backend.port
                );
                let help = format!("give it another port or address for one of them; the other is on line {line}");
                problems.add(Kind::AmbiguousReply, read.address.span.clone(), message, help);
            }
        }
    }
}
