//! Map entries of a service and its backends.

use std::hash::Hasher;
use std::net::IpAddr;

use balancer_common::hash::HashKeys;
use balancer_common::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey, forward};
use ipnet::IpNet;
use siphasher::sip::SipHasher24;

use crate::model::{Affinity, Backend, ForwardMode, Node, Protocol, Service};
use crate::neighbor::NextHop;

/// An address as it lies in a packet, in words.
fn words(address: IpAddr) -> [u32; 4] {
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

/// Where packets of the service go to.
pub fn service_key(service: &Service) -> ServiceKey {
    key(service.address, service.port, service.protocol)
}

/// The entry that says that the service's address is a VIP.
pub fn address_entry(service: &Service) -> (ServiceKey, ServiceEntry) {
    (service_key(service).address_only(), ServiceEntry::default())
}

pub(super) fn service_entry(service: &Service, table: u32, seed: u64) -> ServiceEntry {
    ServiceEntry {
        keys: hash_keys(&service_key(service), seed),
        table,
        table_size: service.table_size.get(),
        port_mask: if service.affinity == Affinity::Flow { u32::MAX } else { 0 },
        ..ServiceEntry::default()
    }
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

pub(super) fn backend_entry(service: &Service, backend: &Backend, next_hop: &NextHop, node: &Node) -> BackendEntry {
    let forward = match (service.forward, backend.address) {
        (ForwardMode::L2, _) => forward::L2,
        (ForwardMode::Nat, _) => forward::NAT,
        (ForwardMode::Ipip | ForwardMode::Gue, IpAddr::V4(_)) => forward::IPIP4,
        (ForwardMode::Ipip | ForwardMode::Gue, IpAddr::V6(_)) => forward::IPIP6,
    };
    let (outer_source, outer_source_mask) = match forward {
        forward::IPIP4 => outer_source(IpNet::V4(node.encap_source_v4)),
        forward::IPIP6 => outer_source(IpNet::V6(node.encap_source_v6)),
        _ => ([0; 4], 0),
    };
    BackendEntry {
        mac: next_hop.mac,
        source_mac: next_hop.source_mac,
        ifindex: next_hop.ifindex,
        address: words(backend.address),
        outer_source,
        outer_source_mask,
        port: if service.forward == ForwardMode::Nat { backend.port.to_be() } else { 0 },
        mtu: u16::try_from(next_hop.mtu).unwrap_or(u16::MAX),
        forward,
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
pub(super) fn reply_entry(service: &Service, backend: &Backend) -> (ServiceKey, ReplyEntry) {
    let from = key(backend.address, backend.port, service.protocol);
    (from, ReplyEntry { address: words(service.address), port: service.port.to_be(), ..ReplyEntry::default() })
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
