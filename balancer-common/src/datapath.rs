//! The way of a packet: take tags off, parse, find the service, admit, take the slot's owner, write the header, count,
//! answer.

use core::ops::Deref;

use crate::capture::NO_SERVICE;
use crate::encap::{self, Inner};
use crate::frame::Frame;
use crate::hash;
use crate::headers::{Be16, Ethernet, IPV4_DF, Ipv4, Ipv6};
use crate::layout::{BackendEntry, FragmentEntry, ServiceEntry, flags, forward, gates};
use crate::nat::{self, End};
use crate::parse::{NETWORK, Packet, Parsed, Role, View};
use crate::slot::{BackendIndex, NO_BACKEND};
use crate::steps::Steps;
use crate::tables::{Seen, Tables};
use crate::verdict::{Event, Reason, Verdict};
use crate::{icmp, lookup, owner, vlan};

mod plain;
mod reply;

/// Decides on a frame and rewrites it. A frame that is passed is as it was, but for replies under `nat`.
#[inline(always)]
pub fn process<F: Frame, T: Steps>(frame: &mut F, tables: &T) -> Verdict {
    match plain::process(frame, tables) {
        Some(verdict) => verdict,
        None => thorough(frame, tables),
    }
}

#[inline(always)]
fn thorough<F: Frame, T: Steps>(frame: &mut F, tables: &T) -> Verdict {
    let tags = vlan::take_off(frame);
    let verdict = untagged(frame, tables);
    if tags.count == 0 || !matches!(verdict, Verdict::Pass | Verdict::Answer) {
        return verdict;
    }
    match vlan::put_back(frame, tags) {
        Some(()) => verdict,
        None => Verdict::Drop(Reason::NoHeadroom),
    }
}

#[inline(always)]
fn untagged<F: Frame, T: Steps>(frame: &mut F, tables: &T) -> Verdict {
    let mut packet = Packet::default();
    match tables.parse(frame, &mut packet) {
        Parsed::Packet => of_flow(frame, tables, &packet),
        Parsed::Foreign => Verdict::Pass,
        Parsed::Fragment => tables.later_fragment(frame, &packet),
        Parsed::Echo => tables.echo(frame, &packet),
        Parsed::Unusable(reason) => tables.unusable(&packet, reason),
    }
}

#[inline(always)]
fn of_flow<F: Frame, T: Steps>(frame: &mut F, tables: &T, packet: &Packet) -> Verdict {
    match lookup::service(tables, &packet.destination) {
        Some(service) => {
            let mut seen = Seen { service: u32::from(service.number), slot: 0, backend: 0 };
            tables.watch(packet, seen.service);
            let verdict = to_backend(frame, tables, packet, &service, &mut seen);
            let verdict = verdict.unwrap_or_else(Verdict::Drop);
            tables.watched(packet, seen, verdict);
            verdict
        }
        // Routers on the way to backends complain to the outer source.
        None if packet.role == Role::Error && tables.learn_path(frame, packet) => Verdict::Pass,
        None if tables.gates() & gates::NAT != 0 => tables.reply(frame, packet),
        None => Verdict::Pass,
    }
}

/// A packet that is for no service: a reply of a backend under `nat`, or nobody's.
#[inline(always)]
pub fn reply<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Verdict {
    reply::process(frame, tables, packet)
}

/// A packet that can't be forwarded is dropped where its address is a service's, and is none of our business elsewhere.
#[inline(always)]
pub fn unusable<T: Tables>(tables: &T, packet: &Packet, reason: Reason) -> Verdict {
    if !lookup::is_vip(tables, &packet.destination) {
        return Verdict::Pass;
    }
    let verdict = Verdict::Drop(reason);
    let seen = Seen { service: NO_SERVICE, slot: 0, backend: 0 };
    tables.watch(packet, NO_SERVICE);
    tables.watched(packet, seen, verdict);
    verdict
}

#[inline(always)]
pub fn echo<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Verdict {
    if !lookup::is_vip(tables, &packet.destination) {
        return Verdict::Pass;
    }
    match icmp::answer_echo(frame, packet.is_ipv6(), packet.transport()) {
        Some(()) => Verdict::Answer,
        None => Verdict::Drop(Reason::Malformed),
    }
}

#[inline(always)]
fn to_backend<F: Frame, T: Steps, V: View>(
    frame: &mut F,
    tables: &T,
    packet: &V,
    service: &ServiceEntry,
    seen: &mut Seen,
) -> Result<Verdict, Reason> {
    let hash = hash::of_flow(&service.keys, packet.is_ipv6(), &packet.source(), packet.ports() & service.port_mask);
    let entropy = hash::entropy(hash);
    if packet.role() == Role::Error
        && service.has(flags::ACL)
        && packet.whole(|packet| tables.denies_sender(frame, service, packet))
    {
        return Err(Reason::AclRefused);
    }
    if service.has(flags::GUARDED) {
        packet.whole(|packet| tables.admit(service, packet, entropy)).map_or(Ok(()), Err)?;
    }
    seen.slot = hash::slot(hash, service.table_size);
    let named = if service.has(flags::QUIC) {
        packet.whole(|packet| tables.by_connection_id(frame, service, packet))
    } else {
        None
    };
    let index = match named {
        Some(index) => index,
        None => owner::of(tables, service, packet, seen.slot)?,
    };
    seen.backend = index;
    let backend = backend(tables, index)?;
    if packet.length() > room(&backend) {
        return Ok(packet.whole(|packet| too_big(frame, tables, packet, service, &backend)));
    }
    if service.mss_clamp != 0 && packet.role() == Role::Opening {
        packet.whole(|packet| tables.clamp(frame, packet, service.mss_clamp));
    }
    if packet.is_fragmented() {
        let entry = FragmentEntry::forwarded(index, entropy);
        packet.whole(|packet| tables.remember_first(packet, &entry));
    }
    let inner = take_hop(frame, packet.is_ipv6(), packet.length())?;
    send(frame, tables, packet, &inner, &backend, entropy)?;
    let begins = match packet.role() {
        Role::Opening => true,
        Role::Datagram => tables.begins_udp_flow(entropy, true),
        Role::Within => false,
        Role::Error => {
            tables.tally(service.number, Event::IcmpRelayed);
            return Ok(Verdict::Forward { ifindex: backend.ifindex });
        }
    };
    tables.count(index, u64::from(packet.length()), begins);
    if begins && named.is_none() {
        tables.count_group(index, seen.slot);
    }
    Ok(Verdict::Forward { ifindex: backend.ifindex })
}

#[inline(always)]
fn backend<T: Tables>(tables: &T, index: BackendIndex) -> Result<impl Deref<Target = BackendEntry>, Reason> {
    if index == NO_BACKEND {
        return Err(Reason::NoBackend);
    }
    let backend = tables.backend(index).ok_or(Reason::BackendMissing)?;
    if backend.forward == forward::NONE {
        return Err(Reason::BackendMissing);
    }
    Ok(backend)
}

/// Bytes of the largest packet that fits, outer headers excluded.
#[inline(always)]
fn room(backend: &BackendEntry) -> u16 {
    backend.mtu.saturating_sub(backend.overhead)
}

#[inline(always)]
fn too_big<F: Frame, T: Steps>(
    frame: &mut F,
    tables: &T,
    packet: &Packet,
    service: &ServiceEntry,
    backend: &BackendEntry,
) -> Verdict {
    // Errors about errors are never sent (RFC 1122, 3.2.2).
    if packet.role == Role::Error || !tables.answer_too_big(frame, packet, room(backend)) {
        return Verdict::Drop(Reason::PacketTooBig);
    }
    tables.tally(service.number, Event::TooBigAnswered);
    Verdict::Answer
}

/// Forwarding is a hop: TTL or hop limit fall by one, and what can't afford it ends here (RFC 1812, 5.3.1; RFC 2003,
/// 3.1; RFC 2473, 3.1). Says what an outer header takes over.
#[inline(always)]
fn take_hop<F: Frame>(frame: &mut F, is_ipv6: bool, length: u16) -> Result<Inner, Reason> {
    if is_ipv6 {
        let ip = frame.at::<Ipv6>(NETWORK).ok_or(Reason::Malformed)?;
        if ip.hop_limit <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.hop_limit -= 1;
        Ok(Inner { length, family: 6, tos: ip.traffic_class(), id: Be16(0), dont_fragment: true })
    } else {
        let ip = frame.at::<Ipv4>(NETWORK).ok_or(Reason::Malformed)?;
        if ip.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.decrement_ttl();
        let dont_fragment = ip.flags_fragment.get() & IPV4_DF != 0;
        Ok(Inner { length, family: 4, tos: ip.tos, id: ip.id, dont_fragment })
    }
}

#[inline(always)]
fn send<F: Frame, T: Steps, V: View>(
    frame: &mut F,
    tables: &T,
    packet: &V,
    inner: &Inner,
    backend: &BackendEntry,
    entropy: u32,
) -> Result<(), Reason> {
    if backend.forward == forward::NAT {
        if packet.role() == Role::Error {
            if !packet.whole(|packet| tables.error_to_backend(frame, packet, backend)) {
                return Err(Reason::Malformed);
            }
        } else {
            packet.whole(|packet| nat::rewrite(frame, packet, End::Destination, &backend.address, backend.port))?;
        }
    }
    wrap(frame, inner, backend, entropy)
}

/// Outer headers, MAC addresses and tag, as the backend's entry says.
#[inline(always)]
fn wrap<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    match backend.forward {
        forward::IPIP4 => encap::in_ipv4(frame, inner, backend, entropy)?,
        forward::IPIP6 => encap::in_ipv6(frame, inner, backend, entropy)?,
        forward::GUE4 | forward::GUE6 => encap::in_gue(frame, inner, backend, entropy)?,
        _ => readdress(frame, backend.mac, backend.source_mac)?,
    }
    if backend.vlan != 0 {
        vlan::tag(frame, backend.vlan).ok_or(Reason::NoHeadroom)?;
    }
    Ok(())
}

#[inline(always)]
fn readdress<F: Frame>(frame: &mut F, mac: [u8; 6], source_mac: [u8; 6]) -> Result<(), Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Malformed)?;
    ethernet.destination = mac;
    ethernet.source = source_mac;
    Ok(())
}

/// A fragment that is not the first goes where the first one went. What comes before its first is kept by the controller
/// for a moment, and dropped here.
#[inline(always)]
pub fn later_fragment<F: Frame, T: Tables>(frame: &mut F, tables: &T, fragment: &Packet) -> Verdict {
    let Some(first) = tables.fragment(&fragment.fragment_key()) else {
        if !lookup::is_vip(tables, &fragment.destination) {
            return Verdict::Pass;
        }
        tables.hold();
        return Verdict::Drop(Reason::Fragment);
    };
    let verdict = if first.backend() == NO_BACKEND {
        reply::later_fragment(frame, tables, fragment, &first)
    } else {
        follow(frame, tables, fragment, &first)
    };
    verdict.unwrap_or_else(Verdict::Drop)
}

#[inline(always)]
fn follow<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    fragment: &Packet,
    first: &FragmentEntry,
) -> Result<Verdict, Reason> {
    let backend = backend(tables, first.backend())?;
    if fragment.length() > room(&backend) {
        return Err(Reason::PacketTooBig);
    }
    let is_ipv6 = fragment.is_ipv6();
    let inner = take_hop(frame, is_ipv6, fragment.length())?;
    if backend.forward == forward::NAT {
        nat::rewrite_fragment(frame, is_ipv6, End::Destination, &backend.address)?;
    }
    wrap(frame, &inner, &backend, first.entropy())?;
    tables.count(first.backend(), u64::from(fragment.length()), false);
    Ok(Verdict::Forward { ifindex: backend.ifindex })
}
