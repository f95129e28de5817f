//! Under `nat`, what a backend sends from its service port gets the service's address and port back.

use super::{readdress, take_hop};
use crate::frame::Frame;
use crate::icmp;
use crate::layout::{FragmentEntry, Kind, ServiceKey};
use crate::mss;
use crate::nat::{self, End};
use crate::parse::{Packet, Role};
use crate::tables::{Route, RouteQuery, Tables, Way, mac};
use crate::verdict::{Reason, Verdict};

#[inline(always)]
pub(super) fn process<F: Frame, T: Tables>(frame: &mut F, tables: &T, packet: &Packet) -> Verdict {
    let key = packet.destination;
    // Of an error: what a router says about a packet to the backend.
    let from =
        ServiceKey::new(packet.source(), packet.ports() as u16, key.protocol(), key.family()).with_kind(Kind::Reply);
    let Some(service) = tables.entry(&from) else { return Verdict::Pass };
    let (address, port) = (service.reply_address(), service.reply_port());
    // Where to comes first: answers to this host's own health checks stay as they are.
    let route = tables.route(&query(&key, packet.length(), address));
    if route.way == Way::Here {
        return Verdict::Pass;
    }
    if route.way == Way::TooBig {
        let answered = packet.role != Role::Error && icmp::answer_too_big(frame, packet, route.mtu as u16).is_some();
        return if answered { Verdict::Answer } else { Verdict::Drop(Reason::PacketTooBig) };
    }
    if service.mss_clamp != 0 && packet.role != Role::Error {
        mss::clamp(frame, packet, service.mss_clamp);
    }
    if packet.is_fragmented() {
        let entry = FragmentEntry::reply(address);
        tables.remember_fragment(&packet.fragment_key(), &entry);
    }
    let rewritten = if packet.role == Role::Error {
        icmp::rewrite_quoted(frame, packet, End::Destination, &address, port).ok_or(Reason::Malformed)
    } else {
        nat::rewrite(frame, packet, End::Source, &address, port)
    };
    let verdict = rewritten.and_then(|()| leave(frame, packet.is_ipv6(), packet.length(), &route));
    verdict.unwrap_or_else(Verdict::Drop)
}

/// A fragment of a reply whose first one went before.
#[inline(always)]
pub(super) fn later_fragment<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    fragment: &Packet,
    first: &FragmentEntry,
) -> Result<Verdict, Reason> {
    let key = &fragment.destination;
    let route = tables.route(&query(key, fragment.length(), first.address()));
    match route.way {
        Way::Here => return Ok(Verdict::Pass),
        Way::TooBig => return Err(Reason::PacketTooBig),
        Way::Kernel | Way::Forward => {}
    }
    let is_ipv6 = key.family() == 6;
    nat::rewrite_fragment(frame, is_ipv6, End::Source, &first.address())?;
    leave(frame, is_ipv6, fragment.length(), &route)
}

#[inline(always)]
fn query(key: &ServiceKey, length: u16, source: [u32; 4]) -> RouteQuery {
    RouteQuery { family: key.family(), protocol: key.protocol(), tos: 0, length, source, destination: key.address() }
}

/// To the client: by the route found, or by the kernel where it has to see to it.
#[inline(always)]
fn leave<F: Frame>(frame: &mut F, is_ipv6: bool, length: u16, route: &Route) -> Result<Verdict, Reason> {
    if route.way != Way::Forward {
        return Ok(Verdict::Pass);
    }
    take_hop(frame, is_ipv6, length)?;
    readdress(frame, mac(route.mac), mac(route.source_mac))?;
    Ok(Verdict::Forward { ifindex: route.ifindex as u32 })
}
