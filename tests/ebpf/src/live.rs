//! For frames that the kernel really sends (BPF_F_TEST_XDP_LIVE_FRAMES): a driver that makes the next flow's packet, whole
//! checksums and all, and tail-calls; what programs cost that do nothing but drop or send; and a sink that counts.
//!
//! The kernel recycles the memory of live frames without writing it again, so the driver writes the headers each time.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::programs::XdpContext;
use balancer_common::frame::Frame;
use balancer_common::headers::{Be16, ETHER_IPV4, Ethernet, Ipv4, Tcp};

use crate::frame::XdpFrame;
use crate::restore::{next_source, put_back};

/// Ethernet, IPv4 and TCP headers, and a little more, so that words of 8 bytes cover them.
const TEMPLATE: usize = 56;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct LiveLoad {
    /// The first bytes of the packet, without source address and checksums.
    pub template: [u8; TEMPLATE],
    /// Sums of the 16-bit words that the IPv4 and the TCP checksum cover, as they lie in memory, without source address.
    pub ip_sum: u32,
    pub tcp_sum: u32,
    pub flows: u32,
    pub stride: u32,
    /// The flow that is next.
    pub flow: u32,
    /// Where `live_redirect` sends to.
    pub ifindex: u32,
}

#[map]
static LIVE_LOAD: Array<LiveLoad> = Array::with_max_entries(1, 0);
#[map]
static LIVE_TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static SINK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[xdp(frags)]
pub fn live(ctx: XdpContext) -> u32 {
    if next_packet(&mut XdpFrame(ctx.ctx)).is_some() {
        // SAFETY: a tail call to whatever the benchmark put there.
        let _ = unsafe { LIVE_TARGET.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[inline(always)]
fn next_packet(frame: &mut XdpFrame) -> Option<()> {
    let load = LIVE_LOAD.get_ptr_mut(0)?;
    // SAFETY: the benchmark runs on one CPU at a time.
    let load = unsafe { &mut *load };
    // SAFETY: the same size; the map's value is aligned to 8.
    unsafe { put_back::<{ TEMPLATE / 8 }>(frame, load.template.as_ptr()) }?;
    let source = next_source(&mut load.flow, load.flows, load.stride);
    let added = (source & 0xffff) + (source >> 16);
    let ip = frame.at::<Ipv4>(Ethernet::LEN)?;
    ip.source = source;
    ip.checksum = Be16(!fold(load.ip_sum + added));
    frame.at::<Tcp>(Ethernet::LEN + Ipv4::LEN)?.checksum = Be16(!fold(load.tcp_sum + added));
    Some(())
}

/// RFC 1071; the sum of fewer than 65,536 words.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Nothing but a drop.
#[xdp(frags)]
pub fn live_drop(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// Turns the packet round and sends it back.
#[xdp(frags)]
pub fn live_tx(ctx: XdpContext) -> u32 {
    if turn(&mut XdpFrame(ctx.ctx)).is_some() { XDP_TX } else { XDP_ABORTED }
}

/// The same to another interface.
#[xdp(frags)]
pub fn live_redirect(ctx: XdpContext) -> u32 {
    match (turn(&mut XdpFrame(ctx.ctx)), LIVE_LOAD.get(0)) {
        // SAFETY: a helper call without pointers.
        (Some(()), Some(load)) => unsafe { bpf_redirect(load.ifindex, 0) as u32 },
        _ => XDP_ABORTED,
    }
}

#[inline(always)]
fn turn(frame: &mut XdpFrame) -> Option<()> {
    let ethernet = frame.at::<Ethernet>(0)?;
    core::mem::swap(&mut ethernet.source, &mut ethernet.destination);
    Some(())
}

/// At the far end of a wire: counts IPv4 packets and drops them; neighbours must still find each other.
#[xdp(frags)]
pub fn sink(ctx: XdpContext) -> u32 {
    match XdpFrame(ctx.ctx).at::<Ethernet>(0) {
        Some(ethernet) if { ethernet.ether_type } == ETHER_IPV4 => {}
        _ => return XDP_PASS,
    }
    if let Some(count) = SINK.get_ptr_mut(0) {
        // SAFETY: a per-CPU value that only this CPU's program writes.
        unsafe { *count += 1 };
    }
    XDP_DROP
}
