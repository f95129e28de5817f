//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).

use super::{Packet, Parsed, Role, ports};
use crate::frame::Frame;
use crate::headers::{PROTOCOL_SCTP, PROTOCOL_TCP, Sctp, TCP_ACK, TCP_SYN, Tcp, Udp};
use crate::verdict::Reason;

const SCTP_INIT: u8 = 1;

/// `header` is the length of the IP headers in bytes.
#[inline(always)]
pub(super) fn parse<F: Frame>(frame: &mut F, packet: &mut Packet, header: usize) -> Parsed {
    let payload = usize::from(packet.length()).wrapping_sub(header);
    let protocol = packet.destination.protocol();
    let malformed = Parsed::Unusable(Reason::Malformed);
    let (from, to) = if protocol == PROTOCOL_TCP {
        let Some(tcp) = frame.at::<Tcp>(packet.transport()) else { return malformed };
        // Of a fragmented packet the options may lie in the next fragment; never the fixed header (RFC 1858).
        let header_end = if packet.is_fragmented() { Tcp::LEN } else { usize::from(tcp.data_offset >> 4) * 4 };
        if payload < Tcp::LEN || tcp.data_offset < 0x50 || payload < header_end {
            return malformed;
        }
        let opening = tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
        packet.role = if opening { Role::Opening } else { Role::Within };
        (tcp.source, tcp.destination)
    } else if protocol == PROTOCOL_SCTP {
        let Some(sctp) = frame.at::<Sctp>(packet.transport()) else { return malformed };
        if payload < Sctp::LEN {
            return malformed;
        }
        packet.role = if sctp.chunk_type == SCTP_INIT { Role::Opening } else { Role::Within };
        (sctp.source, sctp.destination)
    } else {
        let Some(udp) = frame.at::<Udp>(packet.transport()) else { return malformed };
        if payload < Udp::LEN {
            return malformed;
        }
        packet.role = Role::Datagram;
        (udp.source, udp.destination)
    };
    packet.destination = packet.destination.with_port(to.0);
    packet.ports = u64::from(ports(from, to));
    Parsed::Packet
}
