//! Packets as bytes, and where the driver gives them another source.

use balancer_common::checksum;
use balancer_common::frame::{Frame, VecFrame};
use balancer_common::headers::{Be16, Ipv4};

use super::product::{self, SERVER_ID};
use super::subjects::{Kind, Packet, UDP};

/// Length of every packet.
pub const LENGTH: usize = 100;
const ETHERNET: usize = 14;

pub struct Template {
    pub bytes: Vec<u8>,
    /// Where the low 32 bits of the source address lie.
    pub source_offset: u32,
    /// Where the IPv4 checksum lies that the source address is part of; 0 for none.
    pub checksum_offset: u32,
    /// The ones' complement sum of all else that the checksum covers, native words.
    pub sum: u32,
}

fn bytes(words: [u32; 4]) -> Vec<u8> {
    words.map(u32::to_ne_bytes).concat()
}

/// A whole packet of [`LENGTH`] bytes.
pub fn template(packet: Packet) -> Template {
    let mut frame = vec![2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 99];
    let tags: &[u8] = match packet.kind {
        Kind::Tagged => &[0x81, 0, 0, 5],
        Kind::TwiceTagged => &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6],
        _ => &[],
    };
    frame.extend(tags);
    let network = ETHERNET + tags.len();
    if packet.ipv6 {
        ipv6(&mut frame, packet, network);
        return Template { bytes: frame, source_offset: network as u32 + 20, checksum_offset: 0, sum: 0 };
    }
    ipv4(&mut frame, packet, network);
    if packet.kind == Kind::Error {
        // The client is whom the quoted packet went to.
        return Template { bytes: frame, source_offset: network as u32 + 44, checksum_offset: 0, sum: 0 };
    }
    let mut sum = u64::from(!word(&frame, network + 10)) & 0xffff;
    // The driver's source takes the place of 10.0.0.1.
    sum += u64::from(!word(&frame, network + 12)) + u64::from(!word(&frame, network + 14));
    Template {
        sum: u32::from(checksum::fold(sum)),
        bytes: frame,
        source_offset: network as u32 + 12,
        checksum_offset: network as u32 + 10,
    }
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([frame[at], frame[at + 1]])
}

fn ipv4(frame: &mut Vec<u8>, packet: Packet, network: usize) {
    frame.extend([8, 0]);
    let options: &[u8] = if packet.kind == Kind::Options { &[1; 4] } else { &[] };
    let protocol = if matches!(packet.kind, Kind::Error | Kind::Echo) { 1 } else { packet.protocol };
    let fragment: [u8; 2] = match packet.kind {
        Kind::FirstFragment => [0x20, 0],
        Kind::LaterFragment => [0, 10],
        _ => [0x40, 0],
    };
    let vip = &bytes(product::vip(false, packet.port))[..4];
    let version = 0x45 + (options.len() / 4) as u8;
    frame.extend([version, 0, 0, (LENGTH - network) as u8, 0, 77, fragment[0], fragment[1], 64, protocol, 0, 0]);
    frame.extend([10, 0, 0, 1]);
    frame.extend(vip);
    frame.extend(options);
    match packet.kind {
        Kind::Error => {
            frame.extend([3, 1, 0, 0, 0, 0, 0, 0, 0x45, 0, 5, 0xdc, 0, 1, 0x40, 0, 60, packet.protocol, 0, 0]);
            frame.extend(vip);
            frame.extend([10, 0, 0, 1]);
            frame.extend(packet.port.to_be_bytes());
            frame.extend(40_000u16.to_be_bytes());
        }
        Kind::Echo => frame.extend([8, 0, 0, 0, 0, 1, 0, 1]),
        _ => transport(frame, packet),
    }
    frame.resize(LENGTH, 0);
    let mut whole = VecFrame(std::mem::take(frame));
    let mut sum = u64::from(whole.at::<Ipv4>(network).map_or(0, |ip| checksum::of_ipv4(ip)));
    sum += options.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum::<u64>();
    if let Some(ip) = whole.at::<Ipv4>(network) {
        let wrong = u16::from(packet.kind == Kind::BadChecksum);
        ip.checksum = Be16(!checksum::fold(sum) ^ wrong);
    }
    *frame = whole.0;
}

fn ipv6(frame: &mut Vec<u8>, packet: Packet, network: usize) {
    let hop_by_hop = packet.kind == Kind::Options;
    let next = if hop_by_hop { 0 } else { packet.protocol };
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, (LENGTH - network - 40) as u8, next, 64]);
    frame.extend([0xfd; 12]);
    frame.extend([10, 0, 0, 1]);
    frame.extend(bytes(product::vip(true, packet.port)));
    if hop_by_hop {
        frame.extend([packet.protocol, 0, 1, 4, 0, 0, 0, 0]);
    }
    transport(frame, packet);
    frame.resize(LENGTH, 0);
}

fn transport(frame: &mut Vec<u8>, packet: Packet) {
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(packet.port.to_be_bytes());
    if packet.protocol == UDP {
        frame.extend(((LENGTH - frame.len() + 4) as u16).to_be_bytes());
        frame.extend([0, 0]);
        if packet.kind == Kind::QuicShort {
            frame.extend([0x40, 0]);
            frame.extend(SERVER_ID);
        }
        return;
    }
    let syn = packet.kind == Kind::Syn;
    // With a maximum segment size, as SYNs have.
    let (offset, flags) = if syn { (0x60, 2) } else { (0x50, 0x10) };
    frame.extend([0, 0, 0, 0, 0, 0, 0, 0, offset, flags, 0xff, 0xff, 0, 0, 0, 0]);
    if syn {
        frame.extend([2, 4, 0x05, 0xb4]);
    }
}
