//! Bytes to [`Packet`].

use crate::frame::Frame;
use crate::headers::{
    Be16, ETHER_IPV4, ETHER_IPV6, Ethernet, IPV4_MF, IPV4_OFFSET, Ipv4, Ipv6, PROTOCOL_TCP, PROTOCOL_UDP, TCP_ACK,
    TCP_SYN, Tcp, Udp,
};
use crate::layout::ServiceKey;
use crate::verdict::Reason;

/// A TCP or UDP packet with whole headers.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub struct Packet {
    /// Where it goes, as the key of its service.
    pub destination: ServiceKey,
    pub source: [u32; 4],
    /// Source port (low half) and destination port (high half) as they lie in the packet.
    pub ports: u32,
    /// Offset of the transport header from the start of the frame.
    pub transport: usize,
    /// Length of the IP packet in bytes.
    pub length: u16,
    /// A SYN that opens a connection.
    pub syn: bool,
}

impl Packet {
    pub fn is_ipv6(&self) -> bool {
        self.destination.family() == 6
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    Packet(Packet),
    /// Nothing that a service could want.
    Foreign,
    /// For this address, but it can't be forwarded; it is dropped only where the address is a VIP.
    Unusable(ServiceKey, Reason),
}

/// Offset of the IP header.
pub const NETWORK: usize = Ethernet::LEN;

#[inline(always)]
pub fn parse<F: Frame>(frame: &mut F) -> Parsed {
    let Some(ethernet) = frame.at::<Ethernet>(0) else { return Parsed::Foreign };
    match ethernet.ether_type {
        ETHER_IPV4 => ipv4(frame),
        ETHER_IPV6 => ipv6(frame),
        _ => Parsed::Foreign,
    }
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &mut F) -> Parsed {
    let Some(ip) = frame.at::<Ipv4>(NETWORK) else { return Parsed::Foreign };
    let header = ip.header_length();
    if ip.version() != 4 || header < Ipv4::LEN || (ip.protocol != PROTOCOL_TCP && ip.protocol != PROTOCOL_UDP) {
        return Parsed::Foreign;
    }
    let destination = ServiceKey::new([ip.destination, 0, 0, 0], 0, ip.protocol, 4);
    let source = [ip.source, 0, 0, 0];
    let length = ip.total_length.get();
    if ip.flags_fragment.get() & (IPV4_MF | IPV4_OFFSET) != 0 {
        return Parsed::Unusable(destination, Reason::Fragment);
    }
    transport(frame, destination, source, header, length)
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &mut F) -> Parsed {
    let Some(ip) = frame.at::<Ipv6>(NETWORK) else { return Parsed::Foreign };
    if ip.version() != 6 {
        return Parsed::Foreign;
    }
    let protocol = ip.next_header;
    let destination = ServiceKey::new(ip.destination, 0, protocol, 6);
    let source = ip.source;
    let length = u32::from(ip.payload_length.get()) + Ipv6::LEN as u32;
    match protocol {
        PROTOCOL_TCP | PROTOCOL_UDP => {}
        // RFC 8200: hop-by-hop, routing, destination options; RFC 4302: authentication.
        0 | 43 | 60 | 51 => return Parsed::Unusable(destination, Reason::Ipv6Extension),
        44 => return Parsed::Unusable(destination, Reason::Fragment),
        _ => return Parsed::Foreign,
    }
    if length > 0xffff {
        return Parsed::Unusable(destination, Reason::PacketTooBig);
    }
    transport(frame, destination, source, Ipv6::LEN, length as u16)
}

#[inline(always)]
fn transport<F: Frame>(frame: &mut F, destination: ServiceKey, source: [u32; 4], header: usize, length: u16) -> Parsed {
    let transport = NETWORK + header;
    let payload = usize::from(length).wrapping_sub(header);
    if !frame.holds(NETWORK + usize::from(length)) {
        return Parsed::Unusable(destination, Reason::Truncated);
    }
    let (from, to, syn) = if destination.protocol() == PROTOCOL_TCP {
        let Some(tcp) = frame.at::<Tcp>(transport) else {
            return Parsed::Unusable(destination, Reason::Malformed);
        };
        if usize::from(length) < header + Tcp::LEN
            || tcp.data_offset < 0x50
            || payload < usize::from(tcp.data_offset >> 4) * 4
        {
            return Parsed::Unusable(destination, Reason::Malformed);
        }
        (tcp.source, tcp.destination, tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN)
    } else {
        let Some(udp) = frame.at::<Udp>(transport) else {
            return Parsed::Unusable(destination, Reason::Malformed);
        };
        if usize::from(length) < header + Udp::LEN {
            return Parsed::Unusable(destination, Reason::Malformed);
        }
        (udp.source, udp.destination, false)
    };
    let destination = destination.with_port(to.0);
    Parsed::Packet(Packet { destination, source, ports: ports(from, to), transport, length, syn })
}

/// Both ports in the word that is hashed.
#[inline(always)]
pub fn ports(source: Be16, destination: Be16) -> u32 {
    u32::from(source.0) | (u32::from(destination.0) << 16)
}
