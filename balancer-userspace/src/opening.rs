//! The packet that opens a flow: a SYN, an empty datagram, an INIT; as short as it gets, or filled up to a length.

use std::net::{IpAddr, SocketAddr};

use balancer_common::checksum::fold;

use crate::model::Protocol;

/// Such a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    pub protocol: Protocol,
    /// Of the same family as the destination.
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of the IP packet; what the headers leave of it is filled with zeros.
    pub length: u16,
}

/// Offsets and flags of TCP (RFC 9293, 3.1).
const SEQUENCE: usize = 4;
const FLAGS: usize = 13;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

impl Opening {
    pub fn new(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        Self { protocol, source, destination, ttl: 64, length: 0 }
    }

    /// The Ethernet frame, with every checksum but that of SCTP.
    pub fn frame(&self) -> Vec<u8> {
        self.with(&self.transport())
    }

    /// The frame that takes a SYN back.
    pub fn reset(&self) -> Vec<u8> {
        let mut transport = Self { length: 0, ..*self }.transport();
        transport[SEQUENCE..SEQUENCE + 4].copy_from_slice(&2u32.to_be_bytes());
        transport[FLAGS] = RST;
        self.with(&transport)
    }

    fn transport(&self) -> Vec<u8> {
        let mut transport = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        match self.protocol {
            Protocol::Tcp => transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]),
            Protocol::Udp => transport.extend([0; 4]),
            // Tag, checksum, and the head of an INIT chunk.
            Protocol::Sctp => transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]),
        }
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        transport.resize(transport.len().max(usize::from(self.length).saturating_sub(header)), 0);
        if self.protocol == Protocol::Udp {
            let length = transport.len() as u16;
            transport[4..6].copy_from_slice(&length.to_be_bytes());
        }
        transport
    }

    fn with(&self, transport: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let (length, protocol) = (transport.len() as u16, self.protocol.number());
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let total = (length + 20).to_be_bytes();
                // Don't fragment.
                let mut ip = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, self.ttl, protocol, 0, 0];
                ip.extend(from.octets().iter().chain(&to.octets()));
                let checksum = !fold(sum(&ip));
                ip[10..12].copy_from_slice(&checksum.to_ne_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(ip);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let payload = length.to_be_bytes();
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, payload[0], payload[1], protocol, self.ttl]);
                frame.extend(from.octets().iter().chain(&to.octets()));
            }
            // Nobody asks for two families.
            _ => {}
        }
        let addresses = frame.len() - if self.source.is_ipv4() { 8 } else { 32 };
        let pseudo = sum(&frame[addresses..]) + u64::from(length.to_be()) + u64::from(u16::from(protocol).to_be());
        let at = frame.len();
        frame.extend(transport);
        let place = match self.protocol {
            Protocol::Tcp => at + TCP_CHECKSUM,
            Protocol::Udp => at + UDP_CHECKSUM,
            Protocol::Sctp => return frame,
        };
        // A UDP checksum of 0 would say that there is none (RFC 768).
        let checksum = match !fold(pseudo + sum(transport)) {
            0 if self.protocol == Protocol::Udp => u16::MAX,
            checksum => checksum,
        };
        frame[place..place + 2].copy_from_slice(&checksum.to_ne_bytes());
        frame
    }
}

/// The sum of 16-bit words as they lie in memory.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    bytes.chunks(2).map(word).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(protocol: Protocol, ipv6: bool) -> Opening {
        let (source, destination) =
            if ipv6 { ("[2001:db8::7]:4000", "[2001:db8::1]:80") } else { ("198.51.100.7:4000", "192.0.2.1:80") };
        Opening::new(protocol, source.parse().unwrap(), destination.parse().unwrap())
    }

    /// The sum over pseudo-header and transport is all ones where the checksum is right (RFC 1071).
    fn is_right(frame: &[u8], ipv6: bool) -> bool {
        let (header, addresses) = if ipv6 { (40, 22) } else { (20, 26) };
        let transport = &frame[14 + header..];
        let protocol = if ipv6 { frame[20] } else { frame[23] };
        let pseudo = sum(&frame[addresses..14 + header]) + u64::from((transport.len() as u16).to_be());
        fold(pseudo + u64::from(u16::from(protocol).to_be()) + sum(transport)) == 0xffff
    }

    #[test]
    fn checksums_are_right_at_every_length() {
        for ipv6 in [false, true] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for length in [0, 101, 1500] {
                    let opening = Opening { length, ..opening(protocol, ipv6) };
                    let frame = opening.frame();
                    assert!(is_right(&frame, ipv6), "{opening:?}");
                    assert!(length == 0 || frame.len() == usize::from(length) + 14, "{opening:?}");
                }
            }
            assert!(is_right(&opening(Protocol::Tcp, ipv6).reset(), ipv6));
        }
        assert_eq!(sum(&opening(Protocol::Udp, false).frame()[14..34]) % 0xffff, 0);
    }
}
