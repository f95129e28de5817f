//! A frame whose headers can be read, rewritten and grown at the front.

use crate::headers::Header;

pub trait Frame {
    /// The header at `offset` bytes from the start of the frame; `None` where it would reach past its end.
    /// Of a multi-buffer frame only the first buffer can be seen.
    fn at<T: Header>(&mut self, offset: usize) -> Option<&mut T>;

    /// Whether the frame, with all its buffers, holds at least `bytes` bytes.
    fn holds(&self, bytes: usize) -> bool;

    /// Puts `bytes` bytes, of undefined content, before the frame; `None` where there is no room.
    fn grow_front(&mut self, bytes: usize) -> Option<()>;

    /// Takes `bytes` bytes off the front.
    fn shrink_front(&mut self, bytes: usize) -> Option<()>;

    /// Cuts the frame, with all its buffers, to its first `bytes` bytes; `None` where it is shorter.
    fn truncate(&mut self, bytes: usize) -> Option<()>;
}

#[cfg(feature = "user")]
pub use in_memory::VecFrame;

#[cfg(feature = "user")]
mod in_memory {
    extern crate alloc;

    use alloc::vec::Vec;

    use super::{Frame, Header};

    /// A whole frame in memory, as the model sees it. The XDP program has as much headroom as the kernel leaves it, at
    /// least 192 bytes, far more than the largest header that is put before a frame.
    #[derive(Clone, PartialEq, Eq, Debug)]
    pub struct VecFrame(pub Vec<u8>);

    impl Frame for VecFrame {
        fn at<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
            let bytes = self.0.get_mut(offset..)?.get_mut(..size_of::<T>())?;
            // SAFETY: as long as `T` by the slice above; any bytes are a valid `T` at any alignment.
            Some(unsafe { &mut *bytes.as_mut_ptr().cast::<T>() })
        }

        fn holds(&self, bytes: usize) -> bool {
            bytes <= self.0.len()
        }

        fn grow_front(&mut self, bytes: usize) -> Option<()> {
            self.0.splice(0..0, core::iter::repeat_n(0, bytes));
            Some(())
        }

        fn shrink_front(&mut self, bytes: usize) -> Option<()> {
            // The kernel keeps a whole Ethernet header.
            if self.0.len() < bytes + 14 {
                return None;
            }
            self.0.drain(..bytes);
            Some(())
        }

        fn truncate(&mut self, bytes: usize) -> Option<()> {
            if self.0.len() < bytes {
                return None;
            }
            self.0.truncate(bytes);
            Some(())
        }
    }
}
