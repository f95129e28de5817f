//! IPv6 and its extension headers (RFC 8200).

use super::{NETWORK, Packet, Parsed, icmp, transport};
use crate::frame::Frame;
use crate::headers::{
    Extension, FragmentHeader, Ipv6, PROTOCOL_ICMPV6, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, RoutingHeader,
};
use crate::layout::ServiceKey;
use crate::verdict::Reason;

/// Extension headers that are looked through; a packet with more is not forwarded.
pub const MOST_EXTENSIONS: usize = 6;

/// Bytes of headers before the transport header that are looked through.
const LONGEST_HEADERS: usize = 900;

pub(super) const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &mut F, packet: &mut Packet) -> Parsed {
    let Some(ip) = frame.at::<Ipv6>(NETWORK) else { return Parsed::Foreign };
    if ip.version() != 6 {
        return Parsed::Foreign;
    }
    let next = ip.next_header;
    let to = ip.destination;
    packet.set_source(ip.source);
    packet.destination = ServiceKey::new(to, 0, next, 6);
    let total = u32::from(ip.payload_length.get()) + Ipv6::LEN as u32;
    let mut place = Walked { protocol: next, header: Ipv6::LEN, fragment_id: 0, offset: 0, more: false };
    if is_extension(next)
        && let Err(reason) = walk(frame, &mut place)
    {
        return Parsed::Unusable(reason);
    }
    let protocol = place.protocol;
    let known = protocol == PROTOCOL_TCP
        || protocol == PROTOCOL_UDP
        || protocol == PROTOCOL_ICMPV6
        || protocol == PROTOCOL_SCTP;
    if !known && place.offset == 0 {
        return Parsed::Foreign;
    }
    packet.destination = ServiceKey::new(to, 0, protocol, 6);
    packet.fragment_id = u64::from(place.fragment_id);
    packet.fragmented = u64::from(place.more);
    packet.transport = (NETWORK + place.header) as u64;
    packet.length = u64::from(total as u16);
    if martian(&packet.source(), &to) {
        return Parsed::Unusable(Reason::Martian);
    }
    if total > 0xffff {
        return Parsed::Unusable(Reason::PacketTooBig);
    }
    if usize::from(packet.length()) < place.header || !frame.holds(NETWORK + usize::from(packet.length())) {
        return Parsed::Unusable(Reason::Truncated);
    }
    if place.offset != 0 {
        return Parsed::Fragment;
    }
    if protocol == PROTOCOL_ICMPV6 {
        return if place.more { Parsed::Foreign } else { icmp::parse_v6(frame, packet) };
    }
    transport::parse(frame, packet, place.header)
}

/// Unspecified, loopback, multicast, or the destination's own (RFC 4291, 2.5 and 2.7).
#[inline(always)]
pub(crate) fn martian(source: &[u32; 4], destination: &[u32; 4]) -> bool {
    let one = 1u32.to_be();
    source[0] as u8 == 0xff
        || (source[0] | source[1] | source[2] == 0 && (source[3] == 0 || source[3] == one))
        || source == destination
}

struct Walked {
    protocol: u8,
    /// Bytes before what `protocol` names.
    header: usize,
    fragment_id: u32,
    /// Of the fragment, in units of 8 bytes.
    offset: u16,
    more: bool,
}

#[inline(always)]
fn walk<F: Frame>(frame: &mut F, place: &mut Walked) -> Result<(), Reason> {
    for _ in 0..MOST_EXTENSIONS {
        let at = NETWORK + place.header;
        let Some(extension) = frame.at::<Extension>(at) else { return Err(Reason::Malformed) };
        let (next, units) = (extension.next_header, usize::from(extension.length));
        match place.protocol {
            FRAGMENT => {
                let Some(fragment) = frame.at::<FragmentHeader>(at) else { return Err(Reason::Malformed) };
                let word = fragment.offset_more.get();
                (place.offset, place.more) = (word >> 3, word & 1 != 0);
                // An atomic fragment (RFC 6946) is a whole packet.
                place.fragment_id = fragment.id;
                place.header += FragmentHeader::LEN;
                if place.offset != 0 {
                    place.protocol = next;
                    return Ok(());
                }
            }
            AUTHENTICATION => place.header += (units + 2) * 4,
            ROUTING => {
                let Some(routing) = frame.at::<RoutingHeader>(at) else { return Err(Reason::Malformed) };
                // The address is but a stop on the way (RFC 8200, 4.4).
                if routing.segments_left != 0 {
                    return Err(Reason::Ipv6Extension);
                }
                place.header += (units + 1) * 8;
            }
            _ => place.header += (units + 1) * 8,
        }
        place.protocol = next;
        if place.header > LONGEST_HEADERS {
            return Err(Reason::Ipv6Extension);
        }
        if !is_extension(next) {
            return Ok(());
        }
    }
    Err(Reason::Ipv6Extension)
}
