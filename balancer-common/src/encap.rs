//! Encapsulation in IPv4 (RFC 2003) and in IPv6 (RFC 2473), with ECN and DSCP copied to the outer header (RFC 6040
//! normal mode, RFC 2983 uniform model).

use crate::checksum::fold;
use crate::frame::Frame;
use crate::headers::{
    Be16, ETHER_IPV4, ETHER_IPV6, Ethernet, IPV4_DF, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, ipv6_first_word,
};
use crate::layout::BackendEntry;
use crate::parse::NETWORK;
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

/// The last word of the outer source for a flow: receivers spread packets over their queues by it.
#[inline(always)]
pub fn varied_source(backend: &BackendEntry, entropy: u32) -> u32 {
    let last = if backend.forward == crate::layout::forward::IPIP4 { 0 } else { 3 };
    backend.outer_source[last] | (entropy & backend.outer_source_mask)
}

/// Puts an outer IPv4 header before the packet.
#[inline(always)]
pub fn in_ipv4<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    let total = inner.length.wrapping_add(Ipv4::LEN as u16);
    if usize::from(inner.length) + Ipv4::LEN > usize::from(backend.mtu) {
        return Err(Reason::PacketTooBig);
    }
    frame.grow_front(Ipv4::LEN).ok_or(Reason::NoHeadroom)?;
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::NoHeadroom)?;
    *ethernet = Ethernet { destination: backend.mac, source: backend.source_mac, ether_type: ETHER_IPV4 };
    let mut outer = Ipv4 {
        version_ihl: 0x45,
        tos: inner.tos,
        total_length: Be16::new(total),
        id: inner.id,
        // RFC 2003, 3.1: don't-fragment of the inner header is kept.
        flags_fragment: Be16::new(if inner.dont_fragment { IPV4_DF } else { 0 }),
        ttl: OUTER_TTL,
        protocol: inner.protocol(),
        checksum: Be16(0),
        source: varied_source(backend, entropy),
        destination: backend.address[0],
    };
    outer.checksum = header_checksum(&outer);
    *frame.at::<Ipv4>(NETWORK).ok_or(Reason::NoHeadroom)? = outer;
    Ok(())
}

/// Puts an outer IPv6 header before the packet. The flow label carries the flow hash (RFC 6438).
#[inline(always)]
pub fn in_ipv6<F: Frame>(frame: &mut F, inner: &Inner, backend: &BackendEntry, entropy: u32) -> Result<(), Reason> {
    if usize::from(inner.length) + Ipv6::LEN > usize::from(backend.mtu) {
        return Err(Reason::PacketTooBig);
    }
    frame.grow_front(Ipv6::LEN).ok_or(Reason::NoHeadroom)?;
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::NoHeadroom)?;
    *ethernet = Ethernet { destination: backend.mac, source: backend.source_mac, ether_type: ETHER_IPV6 };
    let source = backend.outer_source;
    *frame.at::<Ipv6>(NETWORK).ok_or(Reason::NoHeadroom)? = Ipv6 {
        version_class_flow: ipv6_first_word(inner.tos, entropy),
        payload_length: Be16::new(inner.length),
        next_header: inner.protocol(),
        hop_limit: OUTER_TTL,
        source: [source[0], source[1], source[2], varied_source(backend, entropy)],
        destination: backend.address,
    };
    Ok(())
}

/// Of a header without options whose checksum field is 0.
#[inline(always)]
fn header_checksum(ip: &Ipv4) -> Be16 {
    let halves = u16::from_le_bytes([ip.version_ihl, ip.tos]);
    let ttl = u16::from_le_bytes([ip.ttl, ip.protocol]);
    let sum = u64::from(halves)
        + u64::from(ip.total_length.0)
        + u64::from(ip.id.0)
        + u64::from(ip.flags_fragment.0)
        + u64::from(ttl)
        + u64::from(ip.source)
        + u64::from(ip.destination);
    Be16(!fold(sum))
}
