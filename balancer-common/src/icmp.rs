//! ICMP that the balancer writes or rewrites: echo replies, "too big", and errors under `nat`.

use crate::checksum::{Difference, fold};
use crate::frame::Frame;
use crate::headers::{
    Be16, ETHER_IPV4, ETHER_IPV6, Ethernet, Half, Icmp, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Ports, Word,
    ipv6_first_word,
};
use crate::layout::BackendEntry;
use crate::nat::End;
use crate::parse::{NETWORK, Packet, quoted_header};

const ECHO_REPLY: u8 = 0;
const ECHO_REPLY_V6: u8 = 129;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const TOO_BIG_V6: u8 = 2;
const TTL: u8 = 64;

/// Bytes of the packet that an error quotes: both headers at their longest that is of use, in whole words.
const QUOTED: usize = 128;

/// Turns an echo request round. `at` is the offset of the ICMP header.
#[inline(always)]
pub fn answer_echo<F: Frame>(frame: &mut F, is_ipv6: bool, at: usize) -> Option<()> {
    if is_ipv6 {
        let ip = frame.at::<Ipv6>(NETWORK)?;
        let (source, destination) = (ip.source, ip.destination);
        (ip.source, ip.destination) = (destination, source);
        ip.hop_limit = TTL;
    } else {
        let ip = frame.at::<Ipv4>(NETWORK)?;
        let (source, destination) = (ip.source, ip.destination);
        (ip.source, ip.destination) = (destination, source);
        let old = u16::from_le_bytes([ip.ttl, ip.protocol]);
        ip.ttl = TTL;
        let new = u16::from_le_bytes([TTL, ip.protocol]);
        ip.checksum = Difference::default().replace16(old, new).apply(ip.checksum);
    }
    let icmp = frame.at::<Icmp>(at)?;
    let old = u16::from_le_bytes([icmp.kind, icmp.code]);
    icmp.kind = if is_ipv6 { ECHO_REPLY_V6 } else { ECHO_REPLY };
    let new = u16::from_le_bytes([icmp.kind, icmp.code]);
    let checksum = Difference::default().replace16(old, new).apply(icmp.checksum);
    // A sum of words that are all 0 is 0 and not all ones, which the incremental update can't tell (RFC 1624, 3). No other
    // message here can be all 0: of the others the type is not, and ICMPv6, TCP and UDP sum over addresses too.
    icmp.checksum = if checksum.0 == 0 && icmp.rest == 0 { Be16(0xffff) } else { checksum };
    turn_round(frame)
}

#[inline(always)]
fn turn_round<F: Frame>(frame: &mut F) -> Option<()> {
    let ethernet = frame.at::<Ethernet>(0)?;
    let (source, destination) = (ethernet.source, ethernet.destination);
    (ethernet.source, ethernet.destination) = (destination, source);
    Some(())
}

/// Makes of a packet the answer that it is too big, from the VIP to the client: "fragmentation needed" (RFC 1191) or
/// "packet too big" (RFC 4443, 3.2). `mtu` is what would fit, in bytes.
#[inline(always)]
pub fn answer_too_big<F: Frame>(frame: &mut F, packet: &Packet, mtu: u16) -> Option<()> {
    let ethernet = *frame.at::<Ethernet>(0)?;
    frame.truncate(NETWORK + QUOTED)?;
    let is_ipv6 = packet.is_ipv6();
    // The addresses as they are: a relayed error's flow has others.
    let (source, destination) = if is_ipv6 {
        let ip = frame.at::<Ipv6>(NETWORK)?;
        (ip.source, ip.destination)
    } else {
        let ip = frame.at::<Ipv4>(NETWORK)?;
        ([ip.source, 0, 0, 0], [ip.destination, 0, 0, 0])
    };
    let quoted = sum_of_quoted(frame)?;
    let headers = if is_ipv6 { Ipv6::LEN } else { Ipv4::LEN } + Icmp::LEN;
    frame.grow_front(headers)?;
    let ether_type = if is_ipv6 { ETHER_IPV6 } else { ETHER_IPV4 };
    *frame.at::<Ethernet>(0)? = Ethernet { destination: ethernet.source, source: ethernet.destination, ether_type };
    if is_ipv6 {
        too_big_v6(frame, source, destination, mtu, quoted)
    } else {
        too_big_v4(frame, source[0], destination[0], mtu, quoted)
    }
}

#[inline(always)]
fn sum_of_quoted<F: Frame>(frame: &mut F) -> Option<u64> {
    let mut sum = 0;
    for place in 0..QUOTED / 4 {
        sum += u64::from(frame.at::<Word>(NETWORK + place * 4)?.value);
    }
    Some(sum)
}

#[inline(always)]
fn too_big_v4<F: Frame>(frame: &mut F, client: u32, vip: u32, mtu: u16, quoted: u64) -> Option<()> {
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: Be16::new((Ipv4::LEN + Icmp::LEN + QUOTED) as u16),
        id: Be16(0),
        flags_fragment: Be16(0),
        ttl: TTL,
        protocol: PROTOCOL_ICMP,
        checksum: Be16(0),
        source: vip,
        destination: client,
    };
    ip.checksum = Be16(!crate::checksum::of_ipv4(&ip));
    *frame.at::<Ipv4>(NETWORK)? = ip;
    let rest = u32::from(mtu).to_be();
    let kind = u64::from(u16::from_le_bytes([UNREACHABLE, FRAGMENTATION_NEEDED]));
    let checksum = Be16(!fold(quoted + kind + u64::from(rest)));
    *frame.at::<Icmp>(NETWORK + Ipv4::LEN)? = Icmp { kind: UNREACHABLE, code: FRAGMENTATION_NEEDED, checksum, rest };
    Some(())
}

#[inline(always)]
fn too_big_v6<F: Frame>(frame: &mut F, client: [u32; 4], vip: [u32; 4], mtu: u16, quoted: u64) -> Option<()> {
    let length = (Icmp::LEN + QUOTED) as u16;
    *frame.at::<Ipv6>(NETWORK)? = Ipv6 {
        version_class_flow: ipv6_first_word(0, 0),
        payload_length: Be16::new(length),
        next_header: PROTOCOL_ICMPV6,
        hop_limit: TTL,
        source: vip,
        destination: client,
    };
    let rest = u32::from(mtu).to_be();
    // The pseudo-header (RFC 8200, 8.1): addresses, length, next header.
    let mut sum = quoted + u64::from(rest) + u64::from(u16::from_le_bytes([TOO_BIG_V6, 0]));
    for word in [client[0], client[1], client[2], client[3], vip[0], vip[1], vip[2], vip[3]] {
        sum += u64::from(word);
    }
    sum += u64::from(length.to_be()) + u64::from(u16::from(PROTOCOL_ICMPV6).to_be());
    let checksum = Be16(!fold(sum));
    *frame.at::<Icmp>(NETWORK + Ipv6::LEN)? = Icmp { kind: TOO_BIG_V6, code: 0, checksum, rest };
    Some(())
}

/// What a "too big" says fits, in bytes; `None` of any other error. `at` is the offset of the ICMP header.
#[inline(always)]
pub fn too_big<F: Frame>(frame: &mut F, is_ipv6: bool, at: usize) -> Option<u32> {
    let icmp = *frame.at::<Icmp>(at)?;
    let rest = u32::from_be(icmp.rest);
    if is_ipv6 {
        (icmp.kind == TOO_BIG_V6).then_some(rest)
    } else {
        (icmp.kind == UNREACHABLE && icmp.code == FRAGMENTATION_NEEDED).then_some(rest & 0xffff)
    }
}

/// Makes an error about a packet from a `nat` service one about the packet that the backend sent.
#[inline(always)]
pub fn to_backend<F: Frame>(frame: &mut F, packet: &Packet, backend: &BackendEntry) -> Option<()> {
    rewrite_quoted(frame, packet, End::Source, &backend.address, backend.port)?;
    readdress_error(frame, packet, &backend.address)
}

/// Puts an address and a port (network byte order) into one end of the packet that an error quotes, so that who gets the
/// error knows it as its own. The quoted transport checksum, often cut off, is left as it is: nobody can check it.
#[inline(always)]
pub fn rewrite_quoted<F: Frame>(frame: &mut F, packet: &Packet, end: End, address: &[u32; 4], port: u16) -> Option<()> {
    let quoted = packet.transport() + Icmp::LEN;
    let mut difference = Difference::default();
    let header = if packet.is_ipv6() {
        let ip = frame.at::<Ipv6>(quoted)?;
        let next = ip.next_header;
        let old = if end == End::Source { ip.source } else { ip.destination };
        if end == End::Source {
            ip.source = *address
        } else {
            ip.destination = *address
        }
        difference = difference.replace_address(&old, address);
        quoted_header(frame, packet, quoted, next)?.1
    } else {
        let ip = frame.at::<Ipv4>(quoted)?;
        let old = if end == End::Source { ip.source } else { ip.destination };
        if end == End::Source {
            ip.source = address[0]
        } else {
            ip.destination = address[0]
        }
        let checksum = Difference::default().replace(old, address[0]).apply(ip.checksum);
        difference = difference.replace(old, address[0]).replace16(ip.checksum.0, checksum.0);
        ip.checksum = checksum;
        ip.header_length()
    };
    let ports = frame.at::<Ports>(quoted + header)?;
    let old = if end == End::Source { ports.source.0 } else { ports.destination.0 };
    if end == End::Source {
        ports.source = Be16(port)
    } else {
        ports.destination = Be16(port)
    }
    difference = difference.replace16(old, port);
    add_to_checksum(frame, packet.transport(), difference)
}

/// Puts `address` into the destination of the IP header of an error.
#[inline(always)]
fn readdress_error<F: Frame>(frame: &mut F, packet: &Packet, address: &[u32; 4]) -> Option<()> {
    if packet.is_ipv6() {
        let ip = frame.at::<Ipv6>(NETWORK)?;
        let old = ip.destination;
        ip.destination = *address;
        // ICMPv6 sums over the addresses, ICMP does not.
        let difference = Difference::default().replace_address(&old, address);
        return add_to_checksum(frame, packet.transport(), difference);
    }
    let ip = frame.at::<Ipv4>(NETWORK)?;
    let old = ip.destination;
    ip.destination = address[0];
    ip.checksum = Difference::default().replace(old, address[0]).apply(ip.checksum);
    Some(())
}

#[inline(always)]
fn add_to_checksum<F: Frame>(frame: &mut F, icmp: usize, difference: Difference) -> Option<()> {
    // The checksum stands behind type and code.
    let checksum = frame.at::<Half>(icmp + 2)?;
    checksum.value = difference.apply(Be16(checksum.value)).0;
    Some(())
}
