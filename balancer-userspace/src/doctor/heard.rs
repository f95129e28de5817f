//! What comes back, read from bytes.

use std::net::{IpAddr, SocketAddr};

/// A packet that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Tcp { from: SocketAddr, to: SocketAddr, flags: u8 },
    Udp { from: SocketAddr, to: SocketAddr },
    Error { from: IpAddr, kind: ErrorKind, quoted: Quoted },
}

/// What an ICMP error says. A redirect of IPv6 has another form and is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// Nothing takes this protocol there.
    NoProtocol,
    /// Nothing listens on this port there, or no device takes this encapsulation.
    NoPort,
    Unreachable,
    Prohibited,
    TimeExceeded,
    TooBig,
    /// Passed on, and there is a shorter way.
    Redirect,
}

/// The packet that an error is about, as far as it is quoted. Ports are 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quoted {
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Reads an IP packet; `None` of what is no answer to any probe, or cut off.
pub(super) fn read(bytes: &[u8]) -> Option<Heard> {
    let packet = Packet::read(bytes)?;
    let payload = packet.payload;
    let port = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    let ends = || Some((SocketAddr::new(packet.source, port(0)?), SocketAddr::new(packet.destination, port(2)?)));
    match packet.protocol {
        TCP => ends().and_then(|(from, to)| Some(Heard::Tcp { from, to, flags: *payload.get(13)? })),
        UDP => ends().map(|(from, to)| Heard::Udp { from, to }),
        ICMP | ICMPV6 => {
            let kind = error(packet.protocol, *payload.first()?, *payload.get(1)?)?;
            let quoted = Packet::read(payload.get(8..)?)?;
            let port = |at: usize| match quoted.payload.get(at..at + 2) {
                Some(bytes) if matches!(quoted.protocol, TCP | UDP) => u16::from_be_bytes([bytes[0], bytes[1]]),
                _ => 0,
            };
            let (destination, protocol) = (quoted.destination, quoted.protocol);
            let quoted = Quoted { destination, protocol, source_port: port(0), destination_port: port(2) };
            Some(Heard::Error { from: packet.source, kind, quoted })
        }
        _ => None,
    }
}

/// By type and code: RFC 792, RFC 1122 (3.2.2.1), RFC 4443.
fn error(protocol: u8, kind: u8, code: u8) -> Option<ErrorKind> {
    Some(match (protocol, kind, code) {
        (ICMP, 3, 2) | (ICMPV6, 4, 1) => ErrorKind::NoProtocol,
        (ICMP, 3, 3) | (ICMPV6, 1, 4) => ErrorKind::NoPort,
        (ICMP, 3, 4) | (ICMPV6, 2, _) => ErrorKind::TooBig,
        (ICMP, 3, 9 | 10 | 13) | (ICMPV6, 1, 1 | 5 | 6) => ErrorKind::Prohibited,
        (ICMP, 3, _) | (ICMPV6, 1, _) => ErrorKind::Unreachable,
        (ICMP, 5, _) => ErrorKind::Redirect,
        (ICMP, 11, 0) | (ICMPV6, 3, 0) => ErrorKind::TimeExceeded,
        _ => return None,
    })
}

struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Extension headers of IPv6 are not looked behind: nobody answers a probe with them.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
                let header = usize::from(bytes[0] & 15) * 4;
                let (source, destination) = (address(12)?, address(16)?);
                Some(Self { source, destination, protocol: *bytes.get(9)?, payload: bytes.get(header..)? })
            }
            6 => {
                let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?));
                let (source, destination) = (address(8)?, address(24)?);
                Some(Self { source, destination, protocol: *bytes.get(6)?, payload: bytes.get(40..)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::opening::Opening;

    fn packet(from: &str, to: &str) -> Vec<u8> {
        Opening::new(Protocol::Tcp, from.parse().unwrap(), to.parse().unwrap()).frame()[14..].to_vec()
    }

    #[test]
    fn answers_and_errors_are_read_and_noise_is_not() {
        for (vip, host) in [("192.0.2.1:80", "10.0.0.2:4000"), ("[2001:db8::1]:80", "[fd00::2]:4000")] {
            let (from, to): (SocketAddr, SocketAddr) = (vip.parse().unwrap(), host.parse().unwrap());
            assert_eq!(read(&packet(vip, host)), Some(Heard::Tcp { from, to, flags: 2 }));
            let probe = packet(host, vip);
            let mut error = packet(vip, host);
            let header = if from.is_ipv4() { 20 } else { 40 };
            error.truncate(header);
            error[if from.is_ipv4() { 9 } else { 6 }] = if from.is_ipv4() { ICMP } else { ICMPV6 };
            error.extend(if from.is_ipv4() { [3, 3] } else { [1, 4] });
            error.extend([0; 6]);
            let quoted = Quoted { destination: from.ip(), protocol: TCP, source_port: 4000, destination_port: 80 };
            let whole = [error.clone(), probe.clone()].concat();
            assert_eq!(read(&whole), Some(Heard::Error { from: from.ip(), kind: ErrorKind::NoPort, quoted }));
            // Routers quote as little as eight bytes behind the header; less says nothing.
            assert!(read(&[error.clone(), probe[..header + 8].to_vec()].concat()).is_some());
            for cut in 0..whole.len() {
                let _ = read(&whole[..cut]);
            }
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x45; 3]), None);
    }
}
