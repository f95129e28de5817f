//! Encapsulation in IPv4 (RFC 2003) and in IPv6 (RFC 2473), bare or in UDP (draft-ietf-intarea-gue, variants 0 and 1;
//! RFC 8086's rules for ports and checksums), with ECN and DSCP copied to the outer header (RFC 6040 normal mode,
//! RFC 2983 uniform model).

use crate::checksum;
use crate::frame::Frame;
use crate::headers::{
    Be16, ETHER_IPV4, ETHER_IPV6, Ethernet, Gue, IPV4_DF, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, Udp,
    ipv6_first_word,
};
use crate::layout::{BackendEntry, forward};
use crate::parse::{NETWORK, Packet};
use crate::verdict::Reason;

/// TTL and hop limit of outer headers (RFC 1700's default).
const OUTER_TTL: u8 = 64;

/// What the outer header takes from the inner one.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Of the IP packet, in bytes.
    pub length: u16,
    /// 4 or 6.
    pub family: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification and don't-fragment of an IPv4 packet; of an IPv6 packet 0 and set.
    pub id: Be16,
    pub dont_fragment: bool,
}

impl Inner {
    /// The protocol number that says what is inside.
    #[inline(always)]
    fn protocol(&self) -> u8 {
        if self.family == 4 { PROTOCOL_IPIP } else { PROTOCOL_IPV6 }
    }
}

/// Bytes that a forwarding mode puts before a packet.
pub const fn overhead(mode: u8, variant: u8) -> u16 {
    let gue = Udp::LEN as u16 + if variant == 0 { Gue::LEN as u16 } else { 0 };
    match mode {
        forward::IPIP4 => Ipv4::LEN as u16,
        forward::IPIP6 => Ipv6::LEN as u16,
        forward::GUE4 => Ipv4::LEN as u16 + gue,
        forward::GUE6 => Ipv6::LEN as u16 + gue,
        _ => 0,
    }
}

/// The last word of the outer source for a flow: receivers spread packets over their queues by it.
#[inline(always)]
pub fn varied_source(backend: &BackendEntry, entropy: u32) -> u32 {
    let four = backend.forward == forward::IPIP4 || backend.forward == forward::GUE4;
    backend.outer_source[if four { 0 } else { 3 }] | (entropy & backend.outer_source_mask)
}

/// Whether the balancer sends packets of a flow, whose family is `family`, to such a backend with the outer headers that an
/// error quotes.
#[inline(always)]
pub fn sends(backend: &BackendEntry, entropy: u32, family: u8, quoted: &Packet) -> bool {
    let (outer, in_udp) = match backend.forward {
        forward::IPIP4 => (4, false),
        forward::IPIP6 => (6, false),
        forward::GUE4 => (4, true),
        forward::GUE6 => (6, true),
        _ => return false,
    };
    let to = &quoted.destination;
    let bare = if family == 4 { PROTOCOL_IPIP } else { PROTOCOL_IPV6 };
    if to.family() != outer || to.protocol() != if in_udp { PROTOCOL_UDP } else { bare } {
        return false;
    }
    // An error's flow is the one that answers: what was sent to the port is its source.
    if in_udp && (to.port() != source_port(entropy).0 || quoted.ports() as u16 != backend.port) {
        return false;
    }
    let (source, varied) = (backend.outer_source, varied_source(backend, entropy));
    let sent = if outer == 4 { [varied, 0, 0, 0] } else { [source[0], source[1], source[2], varied] };
    to.address() == sent
}

/// Puts an outer IPv4 header before the packet.
#[inline(always)]
pub fn in_ipv4<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    frame.grow_front(Ipv4::LEN).ok_or(Reason::NoHeadroom)?;
    write_ipv4(frame, inner, backend, entropy, inner.protocol(), Ipv4::LEN as u16).ok_or(Reason::NoHeadroom)
}

/// Puts an outer IPv6 header before the packet. The flow label carries the flow hash (RFC 6438).
#[inline(always)]
pub fn in_ipv6<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    frame.grow_front(Ipv6::LEN).ok_or(Reason::NoHeadroom)?;
    write_ipv6(frame, inner, backend, entropy, inner.protocol(), 0).ok_or(Reason::NoHeadroom)
}

/// Puts outer IP and UDP headers before the packet, and for variant 0 a GUE header. Their UDP checksum is 0, which tunnels
/// may send over IPv6 too (RFC 6935).
#[inline(always)]
pub fn in_gue<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    let header = backend.variant == 0;
    if header {
        frame.grow_front(Gue::LEN).ok_or(Reason::NoHeadroom)?;
        // Where the frame's Ethernet header was, so that it needs no other check.
        *frame.at::<Gue>(NETWORK).ok_or(Reason::NoHeadroom)? =
            Gue { variant_length: 0, protocol: inner.protocol(), flags: Be16(0) };
    }
    let gue = if header { Gue::LEN as u16 } else { 0 };
    let udp_length = inner.length.wrapping_add(gue).wrapping_add(Udp::LEN as u16);
    let ip = if backend.forward == forward::GUE4 { Ipv4::LEN } else { Ipv6::LEN };
    frame
        .grow_front(if backend.forward == forward::GUE4 { Ipv4::LEN + Udp::LEN } else { Ipv6::LEN + Udp::LEN })
        .ok_or(Reason::NoHeadroom)?;
    *frame.at::<Udp>(NETWORK + ip).ok_or(Reason::NoHeadroom)? = Udp {
        source: source_port(entropy),
        destination: Be16(backend.port),
        length: Be16::new(udp_length),
        checksum: Be16(0),
    };
    let written = if backend.forward == forward::GUE4 {
        write_ipv4(frame, inner, backend, entropy, PROTOCOL_UDP, backend.overhead)
    } else {
        write_ipv6(frame, inner, backend, entropy, PROTOCOL_UDP, backend.overhead.wrapping_sub(Ipv6::LEN as u16))
    };
    written.ok_or(Reason::NoHeadroom)
}

/// One of the dynamic ports (RFC 6335), by the flow (RFC 8086, 3.2.1).
#[inline(always)]
pub fn source_port(entropy: u32) -> Be16 {
    Be16::new(0xc000 | (entropy >> 16) as u16)
}

/// Ethernet and IPv4 headers before `added` bytes more than the inner packet has.
#[inline(always)]
fn write_ipv4<F: Frame>(
    frame: &mut F,
    inner: &Inner,
    backend: &BackendEntry,
    entropy: u32,
    protocol: u8,
    added: u16,
) -> Option<()> {
    *frame.at::<Ethernet>(0)? =
        Ethernet { destination: backend.mac, source: backend.source_mac, ether_type: ETHER_IPV4 };
    let mut outer = Ipv4 {
        version_ihl: 0x45,
        tos: inner.tos,
        total_length: Be16::new(inner.length.wrapping_add(added)),
        id: inner.id,
        // RFC 2003, 3.1: don't-fragment of the inner header is kept.
        flags_fragment: Be16::new(if inner.dont_fragment { IPV4_DF } else { 0 }),
        ttl: OUTER_TTL,
        protocol,
        checksum: Be16(0),
        source: varied_source(backend, entropy),
        destination: backend.address[0],
    };
    outer.checksum = Be16(!checksum::of_ipv4(&outer));
    *frame.at::<Ipv4>(NETWORK)? = outer;
    Some(())
}

/// As [`write_ipv4`]; `added` does not count the IPv6 header.
#[inline(always)]
fn write_ipv6<F: Frame>(
    frame: &mut F,
    inner: &Inner,
    backend: &BackendEntry,
    entropy: u32,
    protocol: u8,
    added: u16,
) -> Option<()> {
    *frame.at::<Ethernet>(0)? =
        Ethernet { destination: backend.mac, source: backend.source_mac, ether_type: ETHER_IPV6 };
    let source = backend.outer_source;
    *frame.at::<Ipv6>(NETWORK)? = Ipv6 {
        version_class_flow: ipv6_first_word(inner.tos, entropy),
        payload_length: Be16::new(inner.length.wrapping_add(added)),
        next_header: protocol,
        hop_limit: OUTER_TTL,
        source: [source[0], source[1], source[2], varied_source(backend, entropy)],
        destination: backend.address,
    };
    Some(())
}
