//! Clamping of the largest segment that a SYN offers (RFC 9293, 3.7.1).

use crate::checksum::Difference;
use crate::frame::Frame;
use crate::headers::{Half, PROTOCOL_TCP, TCP_SYN, Tcp};
use crate::parse::Packet;

/// Options that are looked through; systems send the segment size first.
const MOST_OPTIONS: usize = 8;
const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;

/// Lowers the segment size of a packet with SYN to `most` bytes. Packets that offer less, or nothing, stay as they are.
#[inline(always)]
pub fn clamp<F: Frame>(frame: &mut F, packet: &Packet, most: u16) -> Option<()> {
    if packet.destination.protocol() != PROTOCOL_TCP {
        return None;
    }
    let tcp = frame.at::<Tcp>(packet.transport())?;
    if tcp.flags & TCP_SYN == 0 {
        return None;
    }
    let end = usize::from(tcp.data_offset >> 4) * 4;
    let mut offset = Tcp::LEN;
    for _ in 0..MOST_OPTIONS {
        if offset + 4 > end {
            return None;
        }
        let head = u16::from_be(frame.at::<Half>(packet.transport() + (offset & 63))?.value);
        let (kind, length) = ((head >> 8) as u8, usize::from(head & 0xff));
        match kind {
            END => return None,
            NOTHING => offset += 1,
            SEGMENT_SIZE => return lower(frame, packet, offset & 63, most),
            _ if length < 2 => return None,
            _ => offset += length,
        }
    }
    None
}

#[inline(always)]
fn lower<F: Frame>(frame: &mut F, packet: &Packet, option: usize, most: u16) -> Option<()> {
    let size = frame.at::<Half>(packet.transport() + option + 2)?;
    let old = size.value;
    if u16::from_be(old) <= most {
        return Some(());
    }
    let new = most.to_be();
    size.value = new;
    let tcp = frame.at::<Tcp>(packet.transport())?;
    // At an odd place both bytes belong to different words of the sum (RFC 1071, 2.B).
    let odd = !option.is_multiple_of(2);
    let (old, new) = if odd { (old.swap_bytes(), new.swap_bytes()) } else { (old, new) };
    tcp.checksum = Difference::default().replace16(old, new).apply(tcp.checksum);
    Some(())
}
