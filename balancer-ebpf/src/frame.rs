//! A packet in the driver's buffer, behind bounds checks that the verifier follows.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use balancer_common::frame::Frame;
use balancer_common::headers::Header;

pub struct XdpFrame {
    ctx: *mut xdp_md,
}

impl XdpFrame {
    #[inline(always)]
    pub fn new(ctx: *mut xdp_md) -> Self {
        Self { ctx }
    }

    /// Start and end of the first buffer. Read anew each time: helpers that move the packet invalidate them, and
    /// volatile so that the verifier sees packet pointers and not copied numbers.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands the program a valid context.
        unsafe {
            let start = core::ptr::read_volatile(&raw const (*self.ctx).data) as usize;
            let end = core::ptr::read_volatile(&raw const (*self.ctx).data_end) as usize;
            (start, end)
        }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn at<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        let (start, end) = self.bounds();
        let header = start + offset;
        if header + size_of::<T>() > end {
            return None;
        }
        // SAFETY: within the packet by the check above; any bytes are a valid `T` at any alignment.
        Some(unsafe { &mut *(header as *mut T) })
    }

    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        let (start, end) = self.bounds();
        // Only multi-buffer frames need the helper.
        // SAFETY: the kernel hands the program a valid context.
        bytes <= end - start || bytes as u64 <= unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the kernel hands the program a valid context.
        (unsafe { bpf_xdp_adjust_head(self.ctx, -(bytes as i32)) } == 0).then_some(())
    }

    #[inline(always)]
    fn shrink_front(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the kernel hands the program a valid context.
        (unsafe { bpf_xdp_adjust_head(self.ctx, bytes as i32) } == 0).then_some(())
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the kernel hands the program a valid context.
        unsafe {
            let longer = bpf_xdp_get_buff_len(self.ctx) as i64 - bytes as i64;
            (longer >= 0 && bpf_xdp_adjust_tail(self.ctx, -(longer as i32)) == 0).then_some(())
        }
    }
}
