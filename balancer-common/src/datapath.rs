//! The way of a packet: find its service, take the slot's owner, write the header, count, answer.

use core::ops::Deref;

use crate::encap::{self, Inner};
use crate::frame::Frame;
use crate::hash;
use crate::headers::{Be16, Ethernet, IPV4_DF, Ipv4, Ipv6, PROTOCOL_UDP};
use crate::layout::{BackendEntry, ServiceEntry, ServiceKey, forward};
use crate::nat::{self, End};
use crate::parse::{NETWORK, Packet, Parsed, parse};
use crate::slot::{BackendIndex, NO_BACKEND};
use crate::tables::{Route, RouteQuery, Tables};
use crate::verdict::{Reason, Verdict};

/// Decides on a frame and rewrites it. A frame that is passed is as it was, but for replies under `nat`.
#[inline(always)]
pub fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Verdict {
    let packet = match parse(frame) {
        Parsed::Packet(packet) => packet,
        Parsed::Foreign => return Verdict::Pass,
        Parsed::Unusable(destination, reason) => return unusable(tables, &destination, reason),
    };
    match tables.service(&packet.destination) {
        Some(service) => match to_backend(frame, tables, &packet, &service) {
            Ok(ifindex) => Verdict::Forward { ifindex },
            Err(reason) => Verdict::Drop(reason),
        },
        None if tables.has_nat() => reply(frame, tables, &packet),
        None => Verdict::Pass,
    }
}

/// A packet that can't be forwarded is dropped where its address is a service's, and is none of our business elsewhere.
#[inline(always)]
fn unusable<T: Tables>(tables: &T, destination: &ServiceKey, reason: Reason) -> Verdict {
    match tables.service(&destination.address_only()) {
        Some(_) => Verdict::Drop(reason),
        None => Verdict::Pass,
    }
}

#[inline(always)]
fn to_backend<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    service: &ServiceEntry,
) -> Result<u32, Reason> {
    let hash = flow_hash(packet, service);
    let (index, backend) = owner(tables, service, hash)?;
    let inner = take_hop(frame, packet)?;
    send(frame, packet, &inner, &backend, hash::entropy(hash))?;
    tables.count(index, u64::from(packet.length), begins_flow(tables, packet, hash));
    Ok(backend.ifindex)
}

#[inline(always)]
pub fn flow_hash(packet: &Packet, service: &ServiceEntry) -> u64 {
    let ports = packet.ports & service.port_mask;
    if packet.is_ipv6() {
        hash::ipv6(&service.keys, &packet.source, ports)
    } else {
        hash::ipv4(&service.keys, packet.source[0], ports)
    }
}

#[inline(always)]
fn owner<T: Tables>(
    tables: &T,
    service: &ServiceEntry,
    hash: u64,
) -> Result<(BackendIndex, impl Deref<Target = BackendEntry>), Reason> {
    let slot = tables.slot(service.table, hash::slot(hash, service.table_size)).ok_or(Reason::NoBackend)?;
    let index = slot.owner();
    if index == NO_BACKEND {
        return Err(Reason::NoBackend);
    }
    let backend = tables.backend(index).ok_or(Reason::BackendMissing)?;
    if backend.forward == forward::NONE {
        return Err(Reason::BackendMissing);
    }
    Ok((index, backend))
}

/// Forwarding is a hop: TTL or hop limit fall by one, and what can't afford it ends here (RFC 1812, 5.3.1; RFC 2003,
/// 3.1; RFC 2473, 3.1). Says what an outer header takes over.
#[inline(always)]
fn take_hop<F: Frame>(frame: &mut F, packet: &Packet) -> Result<Inner, Reason> {
    if packet.is_ipv6() {
        let ip = frame.at::<Ipv6>(NETWORK).ok_or(Reason::Malformed)?;
        if ip.hop_limit <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.hop_limit -= 1;
        let tos = ip.traffic_class();
        Ok(Inner { length: packet.length, family: 6, tos, id: Be16(0), dont_fragment: true })
    } else {
        let ip = frame.at::<Ipv4>(NETWORK).ok_or(Reason::Malformed)?;
        if ip.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.decrement_ttl();
        let dont_fragment = ip.flags_fragment.get() & IPV4_DF != 0;
        Ok(Inner { length: packet.length, family: 4, tos: ip.tos, id: ip.id, dont_fragment })
    }
}

#[inline(always)]
fn send<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    inner: &Inner,
    backend: &BackendEntry,
    entropy: u32,
) -> Result<(), Reason> {
    match backend.forward {
        forward::IPIP4 => return encap::in_ipv4(frame, inner, backend, entropy),
        forward::IPIP6 => return encap::in_ipv6(frame, inner, backend, entropy),
        _ => {}
    }
    if packet.length > backend.mtu {
        return Err(Reason::PacketTooBig);
    }
    if backend.forward == forward::NAT {
        nat::rewrite(frame, packet, End::Destination, &backend.address, backend.port)?;
    }
    readdress(frame, backend.mac, backend.source_mac)
}

#[inline(always)]
fn readdress<F: Frame>(frame: &mut F, mac: [u8; 6], source_mac: [u8; 6]) -> Result<(), Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Malformed)?;
    ethernet.destination = mac;
    ethernet.source = source_mac;
    Ok(())
}

#[inline(always)]
fn begins_flow<T: Tables>(tables: &T, packet: &Packet, hash: u64) -> bool {
    if packet.destination.protocol() == PROTOCOL_UDP { tables.begins_udp_flow(hash::entropy(hash)) } else { packet.syn }
}

/// Under `nat`, what a backend sends from its service port gets the service's address and port back.
#[inline(always)]
fn reply<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Verdict {
    let key = packet.destination;
    let from = ServiceKey::new(packet.source, packet.ports as u16, key.protocol(), key.family());
    let Some(service) = tables.reply(&from) else { return Verdict::Pass };
    // Where to comes first: answers to this host's own health checks stay as they are.
    let query = RouteQuery {
        family: key.family(),
        protocol: key.protocol(),
        tos: 0,
        length: packet.length,
        source: service.address,
        destination: key.address(),
    };
    let route = tables.route(&query);
    if route == Route::Here {
        return Verdict::Pass;
    }
    if nat::rewrite(frame, packet, End::Source, &service.address, service.port).is_err() {
        return Verdict::Drop(Reason::Malformed);
    }
    let Route::Forward { ifindex, mac, source_mac } = route else { return Verdict::Pass };
    match take_hop(frame, packet).and_then(|_| readdress(frame, mac, source_mac)) {
        Ok(()) => Verdict::Forward { ifindex },
        Err(reason) => Verdict::Drop(reason),
    }
}
