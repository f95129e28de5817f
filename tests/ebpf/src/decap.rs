//! What a backend's `ipip`, `sit` or `fou` device would do: takes outer headers off, bare ones and those of GUE, all four
//! pairs of families.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use balancer_common::frame::Frame;
use balancer_common::headers::{
    ETHER_IPV4, ETHER_IPV6, Ethernet, Gue, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, Udp,
};

use crate::frame::XdpFrame;

#[xdp(frags)]
pub fn decap(ctx: XdpContext) -> u32 {
    strip(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn strip(frame: &mut XdpFrame) -> Option<u32> {
    let mut ethernet = *frame.at::<Ethernet>(0)?;
    let (outer, protocol) = match ethernet.ether_type {
        ETHER_IPV4 => match frame.at::<Ipv4>(Ethernet::LEN) {
            Some(ip) if ip.version_ihl == 0x45 => (Ipv4::LEN, ip.protocol),
            _ => return Some(XDP_PASS),
        },
        ETHER_IPV6 => match frame.at::<Ipv6>(Ethernet::LEN) {
            Some(ip) => (Ipv6::LEN, ip.next_header),
            None => return Some(XDP_PASS),
        },
        _ => return Some(XDP_PASS),
    };
    let (headers, inner) = if protocol == PROTOCOL_UDP { in_udp(frame, outer)? } else { (outer, protocol) };
    ethernet.ether_type = match inner {
        PROTOCOL_IPIP => ETHER_IPV4,
        PROTOCOL_IPV6 => ETHER_IPV6,
        _ => return Some(XDP_PASS),
    };
    if !frame.move_front(headers as i32) {
        return None;
    }
    *frame.at::<Ethernet>(0)? = ethernet;
    Some(XDP_PASS)
}

/// Bytes of headers before what GUE carries behind an IP header of `outer` bytes, and what that is; 0 where it is not
/// GUE.
#[inline(always)]
fn in_udp(frame: &mut XdpFrame, outer: usize) -> Option<(usize, u8)> {
    let payload = Ethernet::LEN + outer + Udp::LEN;
    let Some(udp) = frame.at::<Udp>(Ethernet::LEN + outer) else { return Some((0, 0)) };
    if udp.destination.get() != GUE_PORT {
        return Some((0, 0));
    }
    let gue = *frame.at::<Gue>(payload)?;
    match gue.variant_length >> 4 {
        // Variant 1: an IP header right away.
        4 => Some((outer + Udp::LEN, PROTOCOL_IPIP)),
        6 => Some((outer + Udp::LEN, PROTOCOL_IPV6)),
        0 if gue.variant_length == 0 => Some((outer + Udp::LEN + Gue::LEN, gue.protocol)),
        _ => None,
    }
}

const GUE_PORT: u16 = 6080;

/// Does nothing; a veth takes frames that XDP sends only where its peer has a program.
#[xdp(frags)]
pub fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Passes everything but what a flood sends (see the tests' `flood`).
#[xdp(frags)]
pub fn sieve(ctx: XdpContext) -> u32 {
    let flooded = XdpFrame(ctx.ctx).at::<Ipv4>(Ethernet::LEN).is_some_and(|ip| ip.source as u16 == FLOOD);
    if flooded { XDP_DROP } else { XDP_PASS }
}

/// 203.0.0.0/16, as its first two bytes lie in memory.
const FLOOD: u16 = u16::from_ne_bytes([203, 0]);
