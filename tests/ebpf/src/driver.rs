//! Feeds the program under test: BPF_PROG_TEST_RUN does not put a packet back between repeats, so this one does, gives it
//! the next flow's source address, and tail-calls. Its own cost is the same for every program and is measured alone.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_TX};
use aya_ebpf::helpers::bpf_xdp_get_buff_len;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;
use balancer_common::checksum;
use balancer_common::frame::Frame;
use balancer_common::headers::Header;

use crate::frame::XdpFrame;
use crate::restore::{next_source, put_back};

/// Room for Ethernet, IPv6 and TCP headers.
const TEMPLATE: usize = 80;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Load {
    /// The first bytes of the packet.
    pub template: [u8; TEMPLATE],
    /// Length of the whole packet.
    pub length: u32,
    /// Where the low 32 bits of the source address lie.
    pub source_offset: u32,
    /// Where the checksum lies that covers the source address (0 for none), and the sum of all else that it covers.
    pub checksum_offset: u32,
    pub sum: u32,
    pub flows: u32,
    pub stride: u32,
    /// The flow that is next.
    pub flow: u32,
    pub _padding: u32,
}

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Word(u32);
// SAFETY: packed, an integer only.
unsafe impl Header for Word {}

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Half(u16);
// SAFETY: packed, an integer only.
unsafe impl Header for Half {}

#[map]
static LOAD: Array<Load> = Array::with_max_entries(1, 0);
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[xdp(frags)]
pub fn driver(ctx: XdpContext) -> u32 {
    if next_packet(&mut XdpFrame(ctx.ctx)).is_some() {
        // SAFETY: a tail call to whatever the benchmark put there.
        let _ = unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

#[inline(always)]
fn next_packet(frame: &mut XdpFrame) -> Option<()> {
    let load = LOAD.get_ptr_mut(0)?;
    // SAFETY: the benchmark runs on one CPU at a time.
    let load = unsafe { &mut *load };
    // SAFETY: the kernel hands the program a valid context.
    let longer = unsafe { bpf_xdp_get_buff_len(frame.0) } as i32 - load.length as i32;
    if longer != 0 && !frame.move_front(longer) {
        return None;
    }
    // SAFETY: the same size; the map's value is aligned to 8.
    unsafe { put_back::<{ TEMPLATE / 8 }>(frame, load.template.as_ptr()) }?;
    let source = next_source(&mut load.flow, load.flows, load.stride);
    frame.at::<Word>((load.source_offset & 63) as usize)?.0 = source;
    if load.checksum_offset != 0 {
        let sum = u64::from(load.sum) + u64::from(source & 0xffff) + u64::from(source >> 16);
        frame.at::<Half>((load.checksum_offset & 63) as usize)?.0 = !checksum::fold(sum);
    }
    Some(())
}

/// The least a program can do.
#[xdp(frags)]
pub fn floor_nothing(_ctx: XdpContext) -> u32 {
    XDP_TX
}
