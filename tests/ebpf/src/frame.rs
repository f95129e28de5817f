//! Access to the packet, as short as it can be.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use balancer_common::frame::Frame;
use balancer_common::headers::Header;

pub struct XdpFrame(pub *mut xdp_md);

impl XdpFrame {
    /// Start and end of the first buffer.
    #[inline(always)]
    pub fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands the program a valid context.
        unsafe {
            let start = core::ptr::read_volatile(&raw const (*self.0).data) as usize;
            let end = core::ptr::read_volatile(&raw const (*self.0).data_end) as usize;
            (start, end)
        }
    }

    /// Moves the start of the packet; negative grows it.
    #[inline(always)]
    pub fn move_front(&mut self, bytes: i32) -> bool {
        // SAFETY: the kernel hands the program a valid context.
        unsafe { bpf_xdp_adjust_head(self.0, bytes) == 0 }
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
        bytes <= end - start
    }

    #[inline(always)]
    fn grow_front(&mut self, bytes: usize) -> Option<()> {
        self.move_front(-(bytes as i32)).then_some(())
    }

    #[inline(always)]
    fn shrink_front(&mut self, bytes: usize) -> Option<()> {
        self.move_front(bytes as i32).then_some(())
    }

    #[inline(always)]
    fn truncate(&mut self, bytes: usize) -> Option<()> {
        // SAFETY: the kernel hands the program a valid context.
        unsafe {
            let longer = bpf_xdp_get_buff_len(self.0) as i64 - bytes as i64;
            (longer >= 0 && bpf_xdp_adjust_tail(self.0, -(longer as i32)) == 0).then_some(())
        }
    }
}
