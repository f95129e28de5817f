//! Map entries of a service and its backends.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use balancer_common::encap;
use balancer_common::hash::HashKeys;
use balancer_common::headers::Be16;
use balancer_common::layout::{
    BackendEntry, Kind, LpmKey, RateLimits, ServerIdKey, ServiceEntry, ServiceKey, flags, forward,
};
use balancer_common::tables::WatchedFlow;
use balancer_common::{hash, parse};
use ipnet::IpNet;
use siphasher::sip::SipHasher24;

use super::service::{LpmPrefix, Numbering};
use crate::model::{
    Affinity, Backend, ForwardMode, Guard, Node, Ports, Protocol, Rate, ServerId, Service, Tracking, WhenFull,
};
use crate::neighbor::NextHop;

/// An address as it lies in a packet, in words.
pub fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [u32::from_ne_bytes(v4.octets()), 0, 0, 0],
        IpAddr::V6(v6) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(v6.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            words
        }
    }
}

fn key(address: IpAddr, port: u16, protocol: Protocol) -> ServiceKey {
    let family = if address.is_ipv4() { 4 } else { 6 };
    ServiceKey::new(words(address), port.to_be(), protocol.number(), family)
}

/// A flow as the packet path shows it; `None` where the addresses are of two families.
pub fn watched_flow(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Option<WatchedFlow> {
    let [a, b, c, d] = words(source.ip());
    let ports = u64::from(source.port().to_be()) | u64::from(destination.port().to_be()) << 16;
    (source.is_ipv4() == destination.is_ipv4()).then(|| WatchedFlow {
        destination: key(destination.ip(), destination.port(), protocol),
        source: [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32],
        ports,
    })
}

/// Where packets of the service go to, on its lowest port.
pub(super) fn service_key(service: &Service) -> ServiceKey {
    let key = key(service.address, service.port, service.protocol);
    if matches!(service.ports, Ports::One(_)) { key } else { key.with_kind(Kind::Range) }
}

/// The key that says that services are on the address.
pub(super) fn address_key(service: &Service) -> ServiceKey {
    service_key(service).address_only()
}

/// A service on a prefix: its ports, and that the addresses are VIPs.
pub(super) fn prefix_keys(service: &Service, entry: ServiceEntry) -> Vec<(LpmPrefix, ServiceEntry)> {
    let key = service_key(service);
    let (family, address) = (key.family(), key.address());
    let length = LPM_HEAD + u32::from(service.prefix_len);
    let at = |port: u16, protocol| (length, LpmKey::service(port.to_be(), protocol, family, address).data());
    let port = if let Ports::One(port) = service.ports { port } else { 0 };
    vec![(at(port, key.protocol()), entry), (at(0, 0), ServiceEntry::default())]
}

/// Bits before the address in keys for longest-prefix match.
const LPM_HEAD: u32 = 32;

/// A prefix of a service's lists.
pub fn acl_prefix(number: u16, acl: u16, prefix: IpNet) -> LpmPrefix {
    (LPM_HEAD + u32::from(prefix.prefix_len()), LpmKey::source(number, acl, words(prefix.network())).data())
}

pub(super) fn server_id_key(number: u16, id: &ServerId) -> ServerIdKey {
    ServerIdKey { service: u64::from(number), id: u64::from_le_bytes(id.bytes) }
}

pub(super) fn rate_limits(guard: &Guard) -> RateLimits {
    let bucket = |rate: Option<Rate>| {
        let Some(rate) = rate else { return (0, 0) };
        let interval = 1_000_000_000 / u64::from(rate.per_second.max(1));
        // The clock ticks every few milliseconds: a bucket must hold what comes within one.
        (interval, (interval * u64::from(rate.burst)).max(CLOCK_TICK_NS))
    };
    let ((interval, depth), (source_interval, source_depth)) = (bucket(guard.rate), bucket(guard.source_rate));
    RateLimits { interval, depth, source_interval, source_depth }
}

/// The coarse clock's step where the kernel's HZ is 100.
const CLOCK_TICK_NS: u64 = 10_000_000;

pub(super) fn service_entry(service: &Service, numbering: &Numbering, seed: u64) -> ServiceEntry {
    let quic = service.quic.map_or(0, |quic| quic.config_id << 5 | quic.id_length);
    let window = match service.connections.tracking {
        Tracking::Window(window) => u16::try_from(window.as_secs()).unwrap_or(u16::MAX),
        Tracking::None | Tracking::Full => 0,
    };
    ServiceEntry {
        // The index has ranges by their lowest port, which is no part of what a service is.
        keys: hash_keys(&key(service.address, service.port, service.protocol), seed),
        table: numbering.table,
        table_size: service.table_size.get(),
        port_mask: port_mask(service),
        number: numbering.number,
        flags: service_flags(service) | if numbering.former { flags::FORMER } else { 0 },
        mss_clamp: service.mss_clamp.unwrap_or(0),
        quic,
        era: numbering.era,
        window,
        acl: numbering.acl,
    }
}

fn service_flags(service: &Service) -> u16 {
    let udp = service.protocol == Protocol::Udp;
    let (guard, connections) = (&service.guard, &service.connections);
    let listed = !guard.allow.is_empty() || !guard.deny.is_empty();
    let bits = [
        (udp && connections.tracking == Tracking::Full, flags::TRACK_ALL),
        (udp && matches!(connections.tracking, Tracking::Window(_)), flags::WINDOW),
        (connections.when_full == WhenFull::Drop, flags::DROP_WHEN_FULL),
        (service.quic.is_some(), flags::QUIC),
        (listed, flags::ACL),
        (!guard.allow.is_empty(), flags::ACL_REFUSES_OTHERS),
        (guard.rate.is_some(), flags::RATE),
        (guard.source_rate.is_some(), flags::SOURCE_RATE),
    ];
    bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit)
}

/// The service's half of the 5-tuple, mixed with the seed (SipHash-2-4).
fn hash_keys(key: &ServiceKey, seed: u64) -> HashKeys {
    let half = |which| {
        let mut hasher = SipHasher24::new_with_keys(seed, which);
        for word in key.address() {
            hasher.write_u32(word);
        }
        hasher.write_u16(key.port());
        hasher.write_u8(key.protocol());
        hasher.write_u8(key.family());
        hasher.finish()
    };
    HashKeys { first: half(1), second: half(2) }
}

/// Keys of the hash of a service's flows.
pub fn flow_keys(service: &Service, seed: u64) -> [u64; 2] {
    let keys = hash_keys(&key(service.address, service.port, service.protocol), seed);
    [keys.first, keys.second]
}

/// What of a flow's ports goes into its hash.
fn port_mask(service: &Service) -> u32 {
    if service.affinity == Affinity::Flow { u32::MAX } else { 0 }
}

/// The slot of the flow from `source` to the port of a service with this entry.
pub fn slot_of(entry: &ServiceEntry, source: SocketAddr, port: u16) -> u32 {
    let ports = parse::ports(Be16::new(source.port()), Be16::new(port)) & entry.port_mask;
    hash::slot(hash::of_flow(&entry.keys, source.is_ipv6(), &words(source.ip()), ports), entry.table_size)
}

/// A number for the way flows are mapped to slots: where two services, or one at two times, have the same, each flow has
/// the same slot in both. What differs may have the same number by chance, once in 2^32.
pub fn mapping(service: &Service, seed: u64) -> u32 {
    let keys = hash_keys(&key(service.address, service.port, service.protocol), seed);
    let mut hasher = SipHasher24::new_with_keys(keys.first, keys.second);
    hasher.write_u32(service.table_size.get());
    hasher.write_u32(port_mask(service));
    hasher.finish() as u32
}

/// How packets of a service go to a backend at `address`, and by which variant of GUE.
fn forwarding(service: &Service, address: IpAddr) -> (u8, u8) {
    match (service.forward, address) {
        (ForwardMode::L2, _) => (forward::L2, 0),
        (ForwardMode::Nat, _) => (forward::NAT, 0),
        (ForwardMode::Ipip, IpAddr::V4(_)) => (forward::IPIP4, 0),
        (ForwardMode::Ipip, IpAddr::V6(_)) => (forward::IPIP6, 0),
        (ForwardMode::Gue, IpAddr::V4(_)) => (forward::GUE4, service.gue.variant),
        (ForwardMode::Gue, IpAddr::V6(_)) => (forward::GUE6, service.gue.variant),
    }
}

/// Bytes that packets of a service grow by on the way to a backend at `address`.
pub fn overhead(service: &Service, address: IpAddr) -> u16 {
    let (forward, variant) = forwarding(service, address);
    encap::overhead(forward, variant)
}

pub(super) fn backend_entry(service: &Service, backend: &Backend, next_hop: &NextHop, node: &Node) -> BackendEntry {
    let (forward, variant) = forwarding(service, backend.address);
    let (outer_source, outer_source_mask) = match forward {
        forward::IPIP4 | forward::GUE4 => outer_source(IpNet::V4(node.encap_source_v4)),
        forward::IPIP6 | forward::GUE6 => outer_source(IpNet::V6(node.encap_source_v6)),
        _ => ([0; 4], 0),
    };
    let port = match service.forward {
        ForwardMode::Nat => backend.port.to_be(),
        ForwardMode::Gue => service.gue.port.to_be(),
        ForwardMode::L2 | ForwardMode::Ipip => 0,
    };
    BackendEntry {
        mac: next_hop.mac,
        source_mac: next_hop.source_mac,
        ifindex: next_hop.ifindex,
        vlan: next_hop.vlan,
        address: words(backend.address),
        outer_source,
        outer_source_mask,
        port,
        mtu: u16::try_from(next_hop.mtu).unwrap_or(u16::MAX),
        forward,
        variant,
        overhead: encap::overhead(forward, variant),
        ..BackendEntry::default()
    }
}

/// The prefix, and which bits of its last word are free; at most 32 bits of it vary.
fn outer_source(prefix: IpNet) -> ([u32; 4], u32) {
    let free = u32::from(prefix.max_prefix_len() - prefix.prefix_len()).min(32);
    let mask = (1u64 << free).wrapping_sub(1) as u32;
    (words(prefix.network()), mask.to_be())
}

/// What puts the service's address and port back into a backend's reply (`nat`).
pub(super) fn reply_entry(service: &Service, backend: &Backend) -> (ServiceKey, ServiceEntry) {
    let from = key(backend.address, backend.port, service.protocol).with_kind(Kind::Reply);
    (from, ServiceEntry::reply(words(service.address), service.port.to_be(), service.mss_clamp.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_source_varies_in_its_host_bits_only() {
        let (source, mask) = outer_source("198.18.0.0/16".parse().unwrap());
        assert_eq!(source[0].to_ne_bytes(), [198, 18, 0, 0]);
        assert_eq!(mask.to_ne_bytes(), [0, 0, 255, 255]);
        assert_eq!(outer_source("192.0.2.1/32".parse().unwrap()).1, 0);
        let (source, mask) = outer_source("100::/64".parse().unwrap());
        assert_eq!((source[0].to_ne_bytes(), source[3], mask), ([1, 0, 0, 0], 0, u32::MAX));
        assert_eq!(outer_source("2001:db8::/120".parse().unwrap()).1.to_ne_bytes(), [0, 0, 0, 255]);
    }

    #[test]
    fn keys_differ_by_seed_and_service() {
        let web = key("192.0.2.1".parse().unwrap(), 80, Protocol::Tcp);
        let tls = key("192.0.2.1".parse().unwrap(), 443, Protocol::Tcp);
        assert_ne!(hash_keys(&web, 1), hash_keys(&web, 2));
        assert_ne!(hash_keys(&web, 1), hash_keys(&tls, 1));
        // Two balancers of different versions must agree.
        assert_eq!(hash_keys(&web, 1), hash_keys(&web, 1));
    }
}
