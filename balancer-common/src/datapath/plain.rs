//! Most packets: whole, without tags, options or extension headers, TCP or UDP, for a service on one port or for nobody.
//! They are read with few checks and never written to memory. What is not of that kind, or has anything wrong, goes the
//! thorough way, which decides the same; so does everything that is watched.

use super::to_backend;
use crate::checksum;
use crate::frame::Frame;
use crate::headers::{
    ETHER_IPV4, ETHER_IPV6, Ethernet, IPV4_MF, IPV4_OFFSET, Ipv4, Ipv6, PROTOCOL_TCP, PROTOCOL_UDP, Ports, TCP_ACK,
    TCP_SYN, Tcp, Udp,
};
use crate::layout::{ServiceKey, gates};
use crate::parse::{NETWORK, Packet, Role, View, ipv4_martian, ipv6_martian, ports};
use crate::steps::Steps;
use crate::tables::Seen;
use crate::verdict::Verdict;

/// A packet as far as it is read here. All of it is in registers, but where a step asks for the whole.
struct Plain<const IPV6: bool> {
    destination: ServiceKey,
    source: [u32; 4],
    ports: u32,
    length: u16,
    role: Role,
    fragment_id: u16,
}

impl<const IPV6: bool> View for Plain<IPV6> {
    #[inline(always)]
    fn is_ipv6(&self) -> bool {
        IPV6
    }

    #[inline(always)]
    fn source(&self) -> [u32; 4] {
        self.source
    }

    #[inline(always)]
    fn ports(&self) -> u32 {
        self.ports
    }

    #[inline(always)]
    fn length(&self) -> u16 {
        self.length
    }

    #[inline(always)]
    fn role(&self) -> Role {
        self.role
    }

    #[inline(always)]
    fn is_fragmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn whole<R>(&self, use_it: impl FnOnce(&Packet) -> R) -> R {
        let transport = NETWORK + if IPV6 { Ipv6::LEN } else { Ipv4::LEN };
        let (length, id) = (self.length, self.fragment_id);
        use_it(&Packet::of_flow(self.destination, self.source, self.ports, length, transport, self.role, id))
    }
}

/// `None` where the packet is to go the thorough way; it is as it was then.
#[inline(always)]
pub(super) fn process<F: Frame, T: Steps>(frame: &mut F, tables: &T) -> Option<Verdict> {
    if tables.watches() {
        return None;
    }
    let ether_type = frame.at::<Ethernet>(0)?.ether_type;
    if ether_type == ETHER_IPV4 {
        let packet = parse_ipv4(frame)?;
        return decide(frame, tables, packet);
    }
    if ether_type == ETHER_IPV6 {
        let packet = parse_ipv6(frame)?;
        return decide(frame, tables, packet);
    }
    None
}

#[inline(always)]
fn decide<F: Frame, T: Steps, const IPV6: bool>(frame: &mut F, tables: &T, packet: Plain<IPV6>) -> Option<Verdict> {
    let Some(service) = tables.entry(&packet.destination) else {
        let gates = tables.gates();
        if gates & gates::WIDE != 0 {
            return None;
        }
        let reply = gates & gates::NAT != 0;
        return Some(if reply { packet.whole(|packet| tables.reply(frame, packet)) } else { Verdict::Pass });
    };
    Some(to_backend(frame, tables, &packet, &service, &mut Seen::default()).unwrap_or_else(Verdict::Drop))
}

#[inline(always)]
fn parse_ipv4<F: Frame>(frame: &mut F) -> Option<Plain<false>> {
    let ip = frame.at::<Ipv4>(NETWORK)?;
    let (protocol, length) = (ip.protocol, ip.total_length.get());
    let (source, destination, fragment_id) = (ip.source, ip.destination, ip.id.0);
    let wrong = ip.version_ihl != 0x45
        || ip.flags_fragment.get() & (IPV4_MF | IPV4_OFFSET) != 0
        || ipv4_martian(source, destination)
        || checksum::of_ipv4_words(ip) != 0xffff;
    if wrong || !frame.holds(NETWORK + usize::from(length)) {
        return None;
    }
    let (ports, role) = transport(frame, protocol, Ipv4::LEN, length)?;
    let key = ServiceKey::new([destination, 0, 0, 0], (ports >> 16) as u16, protocol, 4);
    Some(Plain { destination: key, source: [source, 0, 0, 0], ports, length, role, fragment_id })
}

#[inline(always)]
fn parse_ipv6<F: Frame>(frame: &mut F) -> Option<Plain<true>> {
    let ip = frame.at::<Ipv6>(NETWORK)?;
    let (protocol, payload) = (ip.next_header, ip.payload_length.get());
    let (source, destination) = (ip.source, ip.destination);
    if ip.version() != 6 || payload > u16::MAX - Ipv6::LEN as u16 || ipv6_martian(&source, &destination) {
        return None;
    }
    let length = payload + Ipv6::LEN as u16;
    if !frame.holds(NETWORK + usize::from(length)) {
        return None;
    }
    let (ports, role) = transport(frame, protocol, Ipv6::LEN, length)?;
    let key = ServiceKey::new(destination, (ports >> 16) as u16, protocol, 6);
    Some(Plain { destination: key, source, ports, length, role, fragment_id: 0 })
}

/// Both ports and the role of a packet of `length` bytes whose transport header begins `header` bytes into it.
#[inline(always)]
fn transport<F: Frame>(frame: &mut F, protocol: u8, header: usize, length: u16) -> Option<(u32, Role)> {
    let payload = usize::from(length).wrapping_sub(header);
    if protocol == PROTOCOL_TCP {
        let tcp = frame.at::<Tcp>(NETWORK + header)?;
        let header_length = usize::from(tcp.data_offset >> 4) * 4;
        if header_length < Tcp::LEN || payload < header_length || payload > usize::from(u16::MAX) {
            return None;
        }
        let opening = tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
        return Some((ports(tcp.source, tcp.destination), if opening { Role::Opening } else { Role::Within }));
    }
    if protocol != PROTOCOL_UDP || payload < Udp::LEN || payload > usize::from(u16::MAX) {
        return None;
    }
    let udp = frame.at::<Ports>(NETWORK + header)?;
    Some((ports(udp.source, udp.destination), Role::Datagram))
}
