//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo requests, and errors about a flow.
//!
//! An error for a VIP was caused by a packet that a backend sent to a client: it quotes that packet, whose source is the
//! service and whose destination the client. Eight bytes of the transport header are enough, which is what RFC 792 asks
//! routers for.

use super::ipv6::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP};
use super::{NETWORK, Packet, Parsed, Role, ports};
use crate::frame::Frame;
use crate::headers::{
    Extension, FragmentHeader, Header, IPV4_OFFSET, Icmp, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_SCTP,
    PROTOCOL_TCP, PROTOCOL_UDP, Ports,
};
use crate::layout::ServiceKey;
use crate::verdict::Reason;

const ECHO_REQUEST: u8 = 8;
const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const ECHO_REQUEST_V6: u8 = 128;
/// Unreachable, too big, time exceeded, parameter problem.
const LAST_ERROR_V6: u8 = 4;

/// Our own packets to backends, which routers on the way complain about to the outer source.
#[inline(always)]
fn is_tunnel(protocol: u8) -> bool {
    protocol == PROTOCOL_IPIP || protocol == PROTOCOL_IPV6
}

#[inline(always)]
pub(crate) fn is_transport(protocol: u8) -> bool {
    protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP
}

/// A header of the packet, and not of what Ethernet padded it with.
#[inline(always)]
pub(crate) fn within<'a, F: Frame, H: Header>(frame: &'a mut F, packet: &Packet, offset: usize) -> Option<&'a mut H> {
    if offset + size_of::<H>() > NETWORK + usize::from(packet.length()) { None } else { frame.at::<H>(offset) }
}

#[inline(always)]
pub(super) fn parse_v4<F: Frame>(frame: &mut F, packet: &mut Packet) -> Parsed {
    let malformed = Parsed::Unusable(Reason::Malformed);
    let Some(icmp) = within::<F, Icmp>(frame, packet, packet.transport()) else { return malformed };
    match icmp.kind {
        ECHO_REQUEST => return Parsed::Echo,
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => {}
        _ => return Parsed::Foreign,
    }
    let quoted = packet.transport() + Icmp::LEN;
    let Some(ip) = within::<F, Ipv4>(frame, packet, quoted) else { return malformed };
    let (options, protocol) = (ip.header_length(), ip.protocol);
    let (service, client) = ([ip.source, 0, 0, 0], [ip.destination, 0, 0, 0]);
    if ip.version() != 4 || options < Ipv4::LEN {
        return malformed;
    }
    if is_tunnel(protocol) {
        return error(packet, ServiceKey::new(service, 0, protocol, 4), client, 0);
    }
    // A fragment that is not the first says no ports.
    if !is_transport(protocol) || ip.flags_fragment.get() & IPV4_OFFSET != 0 {
        return Parsed::Foreign;
    }
    let Some(quoted_ports) = within::<F, Ports>(frame, packet, quoted + options) else { return malformed };
    let key = ServiceKey::new(service, quoted_ports.source.0, protocol, 4);
    error(packet, key, client, ports(quoted_ports.destination, quoted_ports.source))
}

#[inline(always)]
pub(super) fn parse_v6<F: Frame>(frame: &mut F, packet: &mut Packet) -> Parsed {
    let malformed = Parsed::Unusable(Reason::Malformed);
    let Some(icmp) = within::<F, Icmp>(frame, packet, packet.transport()) else { return malformed };
    match icmp.kind {
        ECHO_REQUEST_V6 => return Parsed::Echo,
        1..=LAST_ERROR_V6 => {}
        _ => return Parsed::Foreign,
    }
    let quoted = packet.transport() + Icmp::LEN;
    let Some(ip) = within::<F, Ipv6>(frame, packet, quoted) else { return malformed };
    let next = ip.next_header;
    let (service, client) = (ip.source, ip.destination);
    if ip.version() != 6 {
        return malformed;
    }
    let Some((protocol, header)) = quoted_header(frame, packet, quoted, next) else { return Parsed::Foreign };
    if is_tunnel(protocol) {
        return error(packet, ServiceKey::new(service, 0, protocol, 6), client, 0);
    }
    if !is_transport(protocol) {
        return Parsed::Foreign;
    }
    let Some(quoted_ports) = within::<F, Ports>(frame, packet, quoted + header) else { return malformed };
    let key = ServiceKey::new(service, quoted_ports.source.0, protocol, 6);
    error(packet, key, client, ports(quoted_ports.destination, quoted_ports.source))
}

/// The protocol of a quoted IPv6 packet whose header at `at` names `next`, and the bytes before it. What a host sends has an
/// extension header or two at most: options, and a fragment header, also of a whole packet that was told to fit (RFC 8200,
/// 4.5). Nothing where it has more, or is a fragment that says no ports.
#[inline(always)]
pub(crate) fn quoted_header<F: Frame>(frame: &mut F, error: &Packet, at: usize, next: u8) -> Option<(u8, usize)> {
    let (mut protocol, mut header) = (next, Ipv6::LEN);
    for _ in 0..MOST_QUOTED_EXTENSIONS {
        if protocol == FRAGMENT {
            let fragment = within::<F, FragmentHeader>(frame, error, at + header)?;
            if fragment.offset_more.get() >> 3 != 0 {
                return None;
            }
            (protocol, header) = (fragment.next_header, header + FragmentHeader::LEN);
        } else if matches!(protocol, HOP_BY_HOP | DESTINATION_OPTIONS) {
            let extension = within::<F, Extension>(frame, error, at + header)?;
            let bytes = (usize::from(extension.length) + 1) * 8;
            if bytes > LONGEST_QUOTED_EXTENSION {
                return None;
            }
            (protocol, header) = (extension.next_header, header + bytes);
        } else {
            break;
        }
    }
    Some((protocol, header))
}

const MOST_QUOTED_EXTENSIONS: usize = 2;
const LONGEST_QUOTED_EXTENSION: usize = 256;

/// The flow as the client's own packets say it. An error goes to who sent the packet that it quotes: any other one was made
/// up (RFC 5927).
#[inline(always)]
fn error(packet: &mut Packet, service: ServiceKey, client: [u32; 4], ports: u32) -> Parsed {
    if packet.destination.address() != service.address() {
        return Parsed::Foreign;
    }
    packet.destination = service;
    packet.set_source(client);
    packet.ports = u64::from(ports);
    packet.role = Role::Error;
    Parsed::Packet
}
