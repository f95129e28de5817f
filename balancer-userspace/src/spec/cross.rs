//! What must fit together across services: names, addresses, limits, replies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::backend::ReadBackend;
use super::catalogue::Kind;
use super::diagnostic::{Problems, Span};
use super::seen::Seen;
use super::service::Read;
use super::{overlap, prefix};
use crate::model::{ForwardMode, Limits, Protocol};

pub(super) fn check(limits: &Limits, services: &[Read], problems: &Problems<'_>) {
    counts(limits, services, problems);
    unique_names(services, problems);
    overlap::check(services, problems);
    for service in services {
        unique_backends(service, problems);
    }
    addresses(services, problems);
    replies(services, problems);
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
    let sizes = || services.iter().flat_map(|service| &service.prefixes);
    let mut sum = 0;
    let crossing = sizes().find(|size| {
        sum += size.value;
        sum > limits.acl_prefixes as usize
    });
    if let Some(crossing) = crossing {
        let (limit, prefixes) = (limits.acl_prefixes, sizes().map(|size| size.value).sum());
        over(crossing.span.clone(), "limits.acl_prefixes", limit, prefixes, "prefixes in allow and deny lists");
    }
    for size in services.iter().filter_map(|service| service.table_size.as_ref()) {
        if size.value > limits.table_size {
            let message =
                format!("`service.table_size` = {} is above `limits.table_size` = {}", size.value, limits.table_size);
            problems.add(Kind::Limit, size.span.clone(), message, "lower it or raise `limits.table_size`");
        }
    }
}

fn unique_names(services: &[Read], problems: &Problems<'_>) {
    let mut names = Seen::new();
    for name in services.iter().filter_map(|service| service.name.as_ref()) {
        if let Some(line) = names.before(&name.value, &name.span, problems) {
            let message = format!("there are two services {:?}", name.value);
            let help = format!("rename one; the first is on line {line}");
            problems.add(Kind::Duplicate, name.span.clone(), message, help);
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

/// Addresses that packets can't be sent to, and VIPs that are backends.
fn addresses(services: &[Read], problems: &Problems<'_>) {
    let mut vips: HashMap<IpNet, &Span> = HashMap::new();
    for address in services.iter().filter_map(|service| service.address.as_ref()) {
        unusable(address.value, &address.span, problems);
        vips.entry(address.value).or_insert(&address.span);
    }
    // Longest first: a VIP is named before a prefix around it.
    let lengths: BTreeSet<u8> = vips.keys().map(IpNet::prefix_len).collect();
    let around = |address: IpAddr| {
        let prefixes = lengths.iter().rev().filter_map(|length| IpNet::new(address, *length).ok());
        prefixes.map(|prefix| prefix.trunc()).find_map(|prefix| Some((prefix, *vips.get(&prefix)?)))
    };
    for address in services.iter().flat_map(|service| &service.backends).map(|backend| &backend.address) {
        unusable(IpNet::from(address.value), &address.span, problems);
        if let Some((vip, span)) = around(address.value) {
            let line = problems.line(span);
            let message = if prefix::is_one(&vip) {
                format!("{} is the address of a service (line {line}) and of a backend", address.value)
            } else {
                format!("{} is a backend, but lies in the prefix {vip} of a service (line {line})", address.value)
            };
            let help = "give the backend's own address, not one that clients use";
            problems.add(Kind::Address, address.span.clone(), message, help);
        }
    }
}

const fn v4(address: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = address;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(address: u128, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length))
}

/// Whom packets can't be sent to by address.
const NOBODY: &[(IpNet, &str, &str)] = &[
    (v4([0, 0, 0, 0], 32), "is no address of anybody", "the address of nobody"),
    (v6(0, 128), "is no address of anybody", "the address of nobody"),
    (v4([127, 0, 0, 0], 8), "is a loopback address", "loopback addresses"),
    (v6(1, 128), "is a loopback address", "the loopback address"),
    (v4([224, 0, 0, 0], 4), "is a multicast address", "multicast addresses"),
    (v6(0xff00 << 112, 8), "is a multicast address", "multicast addresses"),
    (v4([255, 255, 255, 255], 32), "is the broadcast address", "the broadcast address"),
    (v6(0xfe80 << 112, 10), "is a link-local address", "link-local addresses"),
    (v6(0xffff << 32, 96), "is an IPv4 address in IPv6 form", "IPv4 addresses in IPv6 form"),
];

fn unusable(address: IpNet, span: &Span, problems: &Problems<'_>) {
    let overlaps = |other: &IpNet| other.contains(&address) || address.contains(other);
    let Some((_, one, several)) = NOBODY.iter().find(|(other, ..)| overlaps(other)) else { return };
    let message = if prefix::is_one(&address) {
        format!("{} {one}", address.addr())
    } else {
        format!("the prefix {address} holds {several}")
    };
    let mapped = match address.addr() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let help = match mapped.filter(|_| prefix::is_one(&address)) {
        Some(v4) => format!("write {:?}", v4.to_string()),
        None => "write a unicast address that packets can be routed to".to_owned(),
    };
    problems.add(Kind::Address, span.clone(), message, help);
}

/// Replies under `nat` are recognised by the address, port and protocol they come from: these must name one service.
fn replies(services: &[Read], problems: &Problems<'_>) {
    let mut seen: Seen<(IpAddr, u16, Protocol)> = Seen::new();
    for service in services {
        let Some(model) = service.model.as_ref().filter(|model| model.forward == ForwardMode::Nat) else { continue };
        let mut own = HashSet::new();
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
