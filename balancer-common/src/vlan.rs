//! VLAN tags (IEEE 802.1Q, 802.1ad). A tagged frame loses its tags before it is parsed, so that every offset after that
//! is the untagged frame's, and gets them back where it is passed on or answered.

use crate::frame::Frame;
use crate::headers::{ETHER_QINQ, ETHER_VLAN, Ethernet, Header, Word};

/// Both MAC addresses.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Addresses {
    first: u32,
    second: u32,
    third: u32,
}
// SAFETY: packed, integers only.
unsafe impl Header for Addresses {}

/// Where the first tag stands.
const AT: usize = 12;
const TAG: usize = 4;

/// Tags that were taken off, each as it lay in the frame. Not an enum: the verifier wants every field to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tags {
    /// 0 to 2.
    pub count: u32,
    outer: u32,
    inner: u32,
}

const NO_TAGS: Tags = Tags { count: 0, outer: 0, inner: 0 };

#[inline(always)]
fn is_tag(ether_type: crate::headers::Be16) -> bool {
    ether_type == ETHER_VLAN || ether_type == ETHER_QINQ
}

#[inline(always)]
pub fn take_off<F: Frame>(frame: &mut F) -> Tags {
    let Some(ethernet) = frame.at::<Ethernet>(0) else { return NO_TAGS };
    if !is_tag(ethernet.ether_type) {
        return NO_TAGS;
    }
    tagged(frame).unwrap_or(NO_TAGS)
}

#[inline(always)]
fn tagged<F: Frame>(frame: &mut F) -> Option<Tags> {
    let addresses = *frame.at::<Addresses>(0)?;
    let outer = frame.at::<Word>(AT)?.value;
    let inner = frame.at::<Word>(AT + TAG)?.value;
    let two = is_tag(crate::headers::Be16(inner as u16));
    if two {
        // The type behind both tags must be there.
        frame.at::<crate::headers::Half>(AT + 2 * TAG)?;
        frame.shrink_front(2 * TAG)?;
    } else {
        frame.shrink_front(TAG)?;
    }
    *frame.at::<Addresses>(0)? = addresses;
    Some(Tags { count: if two { 2 } else { 1 }, outer, inner })
}

/// The frame as it was, but for what was written to it since.
#[inline(always)]
pub fn put_back<F: Frame>(frame: &mut F, tags: Tags) -> Option<()> {
    if tags.count == 2 {
        push(frame, tags.inner)?;
    }
    if tags.count != 0 {
        push(frame, tags.outer)?;
    }
    Some(())
}

/// A tag of VLAN `id` before the type.
#[inline(always)]
pub fn tag<F: Frame>(frame: &mut F, id: u16) -> Option<()> {
    let [high, low] = id.to_be_bytes();
    let [a, b] = ETHER_VLAN.get().to_be_bytes();
    push(frame, u32::from_ne_bytes([a, b, high, low]))
}

#[inline(always)]
fn push<F: Frame>(frame: &mut F, tag: u32) -> Option<()> {
    let addresses = *frame.at::<Addresses>(0)?;
    frame.grow_front(TAG)?;
    *frame.at::<Addresses>(0)? = addresses;
    frame.at::<Word>(AT)?.value = tag;
    Some(())
}
