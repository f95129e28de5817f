//! ICMP errors of routers about packets that were seen on a wire.

use balancer_common::checksum::fold;

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const ROUTER_V4: [u8; 4] = [10, 99, 0, 1];
const ROUTER_V6: [u8; 16] = [0xfd, 0x99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// As much of a packet as routers quote (RFC 1812, 4.3.2.3).
const QUOTED: usize = 400;

/// "Too big" about `frame`, sent to whoever sent that: nothing larger than `mtu` bytes goes through. `macs` are destination
/// and source of the frame that comes out.
pub fn too_big(macs: [[u8; 6]; 2], frame: &[u8], mtu: u16) -> Vec<u8> {
    let four = u16::from_be_bytes([frame[12], frame[13]]) == IPV4;
    let quoted = &frame[ETHERNET..frame.len().min(ETHERNET + QUOTED)];
    too_big_to(macs, if four { &quoted[12..16] } else { &quoted[8..24] }, quoted, mtu)
}

/// The same sent to any address, about any IP packet.
pub fn too_big_to(macs: [[u8; 6]; 2], destination: &[u8], quoted: &[u8], mtu: u16) -> Vec<u8> {
    let four = destination.len() == 4;
    let (kind, code) = if four { (3, 4) } else { (2, 0) };
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let length = message.len() as u16;
    let mut ip = if four {
        let total = (length + 20).to_be_bytes();
        [&[0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 1, 0, 0][..], &ROUTER_V4, destination].concat()
    } else {
        let payload = length.to_be_bytes();
        [&[0x60, 0, 0, 0, payload[0], payload[1], 58, 64][..], &ROUTER_V6, destination].concat()
    };
    if four {
        let checksum = !sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    let pseudo = if four { Vec::new() } else { [&ip[8..40], &length.to_be_bytes(), &[0, 58]].concat() };
    let checksum = !sum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let ether_type: [u8; 2] = if four { [8, 0] } else { [0x86, 0xdd] };
    [&macs.concat()[..], &ether_type, &ip, &message].concat()
}

fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    fold(bytes.chunks(2).map(word).sum())
}
