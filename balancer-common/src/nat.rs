//! Rewriting of addresses and ports, with checksums kept right incrementally (RFC 1624).

use crate::checksum::Difference;
use crate::frame::Frame;
use crate::headers::{Be16, Ipv4, Ipv6, PROTOCOL_TCP, Tcp, Udp};
use crate::parse::{NETWORK, Packet};
use crate::verdict::Reason;

/// Which end of the packet is rewritten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// Puts `address` in the place of a fragment's own that is not the first: no ports follow, and the checksum of the
/// transport header stands in the first. `is_ipv6` of both.
#[inline(always)]
pub fn rewrite_fragment<F: Frame>(frame: &mut F, is_ipv6: bool, end: End, address: &[u32; 4]) -> Result<(), Reason> {
    rewrite_address(frame, is_ipv6, end, address).map(drop).ok_or(Reason::Malformed)
}

#[inline(always)]
fn rewrite_address<F: Frame>(frame: &mut F, is_ipv6: bool, end: End, address: &[u32; 4]) -> Option<Difference> {
    let difference = Difference::default();
    if is_ipv6 {
        let ip = frame.at::<Ipv6>(NETWORK)?;
        let old = if end == End::Source { ip.source } else { ip.destination };
        if end == End::Source {
            ip.source = *address
        } else {
            ip.destination = *address
        }
        return Some(difference.replace_address(&old, address));
    }
    let ip = frame.at::<Ipv4>(NETWORK)?;
    let old = if end == End::Source { ip.source } else { ip.destination };
    if end == End::Source {
        ip.source = address[0]
    } else {
        ip.destination = address[0]
    }
    let difference = difference.replace(old, address[0]);
    ip.checksum = difference.apply(ip.checksum);
    Some(difference)
}

/// Puts `address` and `port` (network byte order) in the place of the packet's own. Both are of one family.
#[inline(always)]
pub fn rewrite<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    end: End,
    address: &[u32; 4],
    port: u16,
) -> Result<(), Reason> {
    let difference = rewrite_address(frame, packet.is_ipv6(), end, address).ok_or(Reason::Malformed)?;
    if packet.destination.protocol() == PROTOCOL_TCP {
        let tcp = frame.at::<Tcp>(packet.transport()).ok_or(Reason::Malformed)?;
        let old = if end == End::Source { tcp.source } else { tcp.destination };
        if end == End::Source {
            tcp.source = Be16(port)
        } else {
            tcp.destination = Be16(port)
        }
        tcp.checksum = difference.replace16(old.0, port).apply(tcp.checksum);
    } else {
        let udp = frame.at::<Udp>(packet.transport()).ok_or(Reason::Malformed)?;
        let old = if end == End::Source { udp.source } else { udp.destination };
        if end == End::Source {
            udp.source = Be16(port)
        } else {
            udp.destination = Be16(port)
        }
        // RFC 768: 0 means that the sender made no checksum; a checksum that comes out as 0 is sent as all ones.
        if udp.checksum.0 != 0 {
            let checksum = difference.replace16(old.0, port).apply(udp.checksum);
            udp.checksum = if checksum.0 == 0 { Be16(0xffff) } else { checksum };
        }
    }
    Ok(())
}
