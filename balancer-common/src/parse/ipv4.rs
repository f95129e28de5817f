//! IPv4 (RFC 791).

use super::{NETWORK, Packet, Parsed, icmp, transport};
use crate::checksum;
use crate::frame::Frame;
use crate::headers::{IPV4_MF, IPV4_OFFSET, Ipv4, PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::layout::ServiceKey;
use crate::verdict::Reason;

#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &mut F, packet: &mut Packet) -> Parsed {
    let Some(ip) = frame.at::<Ipv4>(NETWORK) else { return Parsed::Foreign };
    let header = ip.header_length();
    let protocol = ip.protocol;
    let ours =
        protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_ICMP || protocol == PROTOCOL_SCTP;
    if ip.version() != 4 || header < Ipv4::LEN || !ours {
        return Parsed::Foreign;
    }
    packet.destination = ServiceKey::new([ip.destination, 0, 0, 0], 0, protocol, 4);
    packet.set_source([ip.source, 0, 0, 0]);
    let length = ip.total_length.get();
    packet.length = u64::from(length);
    packet.fragment_id = u64::from(ip.id.0);
    packet.transport = (NETWORK + header) as u64;
    let fragment = ip.flags_fragment.get();
    if martian(ip.source, ip.destination) {
        return Parsed::Unusable(Reason::Martian);
    }
    if checksum::of_ipv4_words(ip) != 0xffff && !with_options(frame, header) {
        return Parsed::Unusable(Reason::Checksum);
    }
    if usize::from(length) < header || !frame.holds(NETWORK + usize::from(length)) {
        return Parsed::Unusable(Reason::Truncated);
    }
    if fragment & IPV4_OFFSET != 0 {
        return Parsed::Fragment;
    }
    packet.fragmented = u64::from(fragment & IPV4_MF);
    if protocol == PROTOCOL_ICMP {
        return if packet.is_fragmented() { Parsed::Foreign } else { icmp::parse_v4(frame, packet) };
    }
    transport::parse(frame, packet, header)
}

/// One look at the first byte tells nearly all of them: 0, 127, multicast and above (RFC 1122, 3.2.1.3).
#[inline(always)]
pub(crate) fn martian(source: u32, destination: u32) -> bool {
    let first = source as u8;
    first == 0 || first == 127 || first >= 224 || source == destination
}

/// Whether the checksum is right with the options, which few packets have.
#[inline(always)]
fn with_options<F: Frame>(frame: &mut F, header: usize) -> bool {
    let Some(ip) = frame.at::<Ipv4>(NETWORK) else { return false };
    let mut sum = u64::from(checksum::of_ipv4_words(ip));
    let words = (header - Ipv4::LEN) / 4;
    for place in 0..10 {
        if place >= words {
            break;
        }
        let Some(word) = frame.at::<crate::headers::Word>(NETWORK + Ipv4::LEN + place * 4) else { return false };
        sum += u64::from(word.value);
    }
    header > Ipv4::LEN && checksum::fold(sum) == 0xffff
}
