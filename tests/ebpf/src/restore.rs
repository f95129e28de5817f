//! What the drivers share: a packet's first bytes put back, and the next flow's source address.

use balancer_common::frame::Frame;
use balancer_common::headers::Header;

use crate::frame::XdpFrame;

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Words<const N: usize>([u64; N]);
// SAFETY: packed, integers only.
unsafe impl<const N: usize> Header for Words<N> {}

/// Writes `N` words, which lie aligned at `template`, to the front of the packet.
///
/// # Safety
/// So many words must be there.
#[inline(always)]
pub unsafe fn put_back<const N: usize>(frame: &mut XdpFrame, template: *const u8) -> Option<()> {
    // SAFETY: as the caller promises; any bytes are valid.
    let template = unsafe { &*template.cast::<[u64; N]>() };
    let words = &raw mut frame.at::<Words<N>>(0)?.0;
    for (i, word) in template.iter().enumerate() {
        // SAFETY: within the words that `at` checked.
        unsafe { words.cast::<u64>().add(i).write_unaligned(*word) };
    }
    Some(())
}

/// Goes on to the next of `flows`; its source address lies in 10.0.0.0/8.
#[inline(always)]
pub fn next_source(flow: &mut u32, flows: u32, stride: u32) -> u32 {
    *flow += stride;
    if *flow >= flows {
        *flow -= flows;
    }
    flow.to_be() | 0x0a
}
