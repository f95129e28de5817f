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
}
