//! What is measured: which program gets which packets, and what its cost is compared with.

use balancer_common::layout::forward;

/// A service of the benchmark. Its port tells it apart.
#[derive(Clone, Copy)]
pub struct Service {
    pub port: u16,
    pub ipv6: bool,
    pub protocol: u8,
    pub mode: u8,
    pub feature: Feature,
}

/// What is special about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Nothing,
    Gue1,
    Vlan,
    Range,
    AllPorts,
    Prefix,
    /// Every slot is open.
    Open,
    /// The same, and the flow table takes no flow.
    Full,
    Former,
    TrackAll,
    Window,
    Quic,
    Acl,
    Refused,
    Rate,
    SourceRate,
    MssClamp,
}

/// What is different about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ack,
    Syn,
    Datagram,
    QuicShort,
    /// A VLAN tag, or two.
    Tagged,
    TwiceTagged,
    /// IPv4 options, or an IPv6 hop-by-hop header.
    Options,
    FirstFragment,
    LaterFragment,
    /// A router's complaint about the flow.
    Error,
    Echo,
    BadChecksum,
}

/// A packet for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub ipv6: bool,
    pub protocol: u8,
    pub port: u16,
    pub kind: Kind,
}

/// Which program a packet goes through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Floor(&'static str),
    /// The product with services that use nothing but a forwarding mode.
    Plain,
    /// The product with all its features in use, one service each.
    Full,
    /// The same, while `balancer capture` watches another service.
    Watched,
}

pub struct Subject {
    pub name: &'static str,
    pub program: Program,
    pub packet: Packet,
    /// Packets that come before the first, one of each flow.
    pub before: Option<Kind>,
    /// What its cost is divided by.
    pub base: Option<&'static str>,
}

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// A port that no service has.
const NOBODY: u16 = 9;
const PLAIN: u16 = 1000;
const L2: u16 = 1001;
const NAT: u16 = 1002;

const fn service(port: u16, protocol: u8, mode: u8, feature: Feature) -> Service {
    Service { port, ipv6: false, protocol, mode, feature }
}

/// What the product has where no feature is in use.
pub const PLAIN_SERVICES: &[Service] = &[
    service(PLAIN, TCP, forward::IPIP4, Feature::Nothing),
    service(PLAIN, UDP, forward::IPIP4, Feature::Nothing),
    Service { ipv6: true, ..service(PLAIN, TCP, forward::IPIP6, Feature::Nothing) },
    service(L2, TCP, forward::L2, Feature::Nothing),
];

/// And what it has more where all are.
pub const FEATURE_SERVICES: &[Service] = &[
    service(NAT, TCP, forward::NAT, Feature::Nothing),
    service(1010, TCP, forward::GUE4, Feature::Nothing),
    service(1011, TCP, forward::GUE4, Feature::Gue1),
    service(1012, TCP, forward::IPIP6, Feature::Nothing),
    service(1013, TCP, forward::L2, Feature::Vlan),
    service(1020, TCP, forward::IPIP4, Feature::Range),
    service(1021, TCP, forward::IPIP4, Feature::AllPorts),
    service(1022, TCP, forward::IPIP4, Feature::Prefix),
    service(1030, TCP, forward::IPIP4, Feature::Open),
    service(1031, TCP, forward::IPIP4, Feature::Full),
    service(1032, TCP, forward::IPIP4, Feature::Former),
    service(1033, UDP, forward::IPIP4, Feature::TrackAll),
    service(1034, UDP, forward::IPIP4, Feature::Window),
    service(1040, UDP, forward::IPIP4, Feature::Quic),
    service(1050, TCP, forward::IPIP4, Feature::Acl),
    service(1051, TCP, forward::IPIP4, Feature::Refused),
    service(1052, TCP, forward::IPIP4, Feature::Rate),
    service(1053, TCP, forward::IPIP4, Feature::SourceRate),
    service(1060, TCP, forward::IPIP4, Feature::MssClamp),
];

const fn tcp(port: u16, kind: Kind) -> Packet {
    Packet { ipv6: false, protocol: TCP, port, kind }
}

const fn udp(port: u16, kind: Kind) -> Packet {
    Packet { protocol: UDP, ..tcp(port, kind) }
}

const fn floor(name: &'static str, program: &'static str) -> Subject {
    Subject { name, program: Program::Floor(program), packet: tcp(PLAIN, Kind::Ack), before: None, base: None }
}

const fn plain(name: &'static str, packet: Packet, base: &'static str) -> Subject {
    Subject { name, program: Program::Plain, packet, before: None, base: Some(base) }
}

const fn full(name: &'static str, packet: Packet, base: &'static str) -> Subject {
    Subject { program: Program::Full, ..plain(name, packet, base) }
}

const STRAIGHT: &str = "floor: straight line, ipip";
const STRAIGHT_L2: &str = "floor: straight line, l2";
const STRAIGHT_6: &str = "floor: straight line, ipip IPv6";
const ONE_LOOKUP: &str = "floor: parse and one service look-up";
const FLOW: &str = "floor: straight line, ipip, and one flow look-up";
const ACK: &str = "ipip, established TCP";
const DATAGRAM: &str = "ipip, UDP";
const SYN: &str = "ipip, SYN";
const ACK_L2: &str = "l2, established TCP";
const ACK_6: &str = "ipip, IPv6 TCP";
const OFF: &str = "not for a service";

pub const DRIVER: &str = "driver alone";
const IPV6: Packet = Packet { ipv6: true, ..tcp(PLAIN, Kind::Ack) };

pub const SUBJECTS: &[Subject] = &[
    floor(DRIVER, "floor_nothing"),
    floor("floor: parse", "floor_parse"),
    Subject { packet: tcp(NOBODY, Kind::Ack), ..floor(ONE_LOOKUP, "floor_lookup") },
    floor(STRAIGHT_L2, "floor_l2"),
    floor(STRAIGHT, "floor_ipip"),
    Subject { packet: IPV6, ..floor(STRAIGHT_6, "floor_ipip6") },
    Subject { before: Some(Kind::Ack), ..floor(FLOW, "floor_flow") },
    plain(ACK, tcp(PLAIN, Kind::Ack), STRAIGHT),
    plain(SYN, tcp(PLAIN, Kind::Syn), STRAIGHT),
    plain(DATAGRAM, udp(PLAIN, Kind::Datagram), STRAIGHT),
    plain(ACK_6, IPV6, STRAIGHT_6),
    plain(ACK_L2, tcp(L2, Kind::Ack), STRAIGHT_L2),
    plain(OFF, tcp(NOBODY, Kind::Ack), ONE_LOOKUP),
    plain("dropped: wrong checksum", tcp(PLAIN, Kind::BadChecksum), ONE_LOOKUP),
    full("all in use: ipip, established TCP", tcp(PLAIN, Kind::Ack), ACK),
    full("all in use: not for a service", tcp(NOBODY, Kind::Ack), OFF),
    Subject { program: Program::Watched, ..full("capture of another service", tcp(PLAIN, Kind::Ack), ACK) },
    full("nat", tcp(NAT, Kind::Ack), ACK_L2),
    full("IPv4 in IPv6", tcp(1012, Kind::Ack), ACK),
    full("gue, variant 0", tcp(1010, Kind::Ack), ACK),
    full("gue, variant 1", tcp(1011, Kind::Ack), ACK),
    full("came with a VLAN tag", tcp(L2, Kind::Tagged), ACK_L2),
    full("came with two VLAN tags", tcp(L2, Kind::TwiceTagged), ACK_L2),
    full("leaves with a VLAN tag", tcp(1013, Kind::Ack), ACK_L2),
    full("IPv4 options", tcp(PLAIN, Kind::Options), ACK),
    full("IPv6 hop-by-hop header", Packet { kind: Kind::Options, ..IPV6 }, ACK_6),
    full("first fragment", udp(PLAIN, Kind::FirstFragment), DATAGRAM),
    Subject { before: Some(Kind::FirstFragment), ..full("later fragment", udp(PLAIN, Kind::LaterFragment), DATAGRAM) },
    full("ICMP error about a flow", tcp(PLAIN, Kind::Error), ACK),
    full("echo answered", tcp(PLAIN, Kind::Echo), ACK_L2),
    full("service on a range of ports", tcp(1020, Kind::Ack), ACK),
    full("service on all ports", tcp(1021, Kind::Ack), ACK),
    full("service on a prefix", tcp(1022, Kind::Ack), ACK),
    full("open slot, older flow", tcp(1030, Kind::Ack), FLOW),
    Subject { before: Some(Kind::Syn), ..full("open slot, newer flow", tcp(1030, Kind::Ack), FLOW) },
    full("open slot, SYN, table full", tcp(1031, Kind::Syn), FLOW),
    full("former mapping, older flow", tcp(1032, Kind::Ack), FLOW),
    Subject { before: Some(Kind::Datagram), ..full("UDP, every flow tracked", udp(1033, Kind::Datagram), FLOW) },
    Subject { before: Some(Kind::Datagram), ..full("UDP, learning window", udp(1034, Kind::Datagram), FLOW) },
    full("QUIC by server id", udp(1040, Kind::QuicShort), DATAGRAM),
    full("lists of 100,000 prefixes", tcp(1050, Kind::Ack), ACK),
    full("refused by a list", tcp(1051, Kind::Ack), ACK),
    full("rate of new flows, SYN", tcp(1052, Kind::Syn), SYN),
    full("rate of new flows, established", tcp(1052, Kind::Ack), ACK),
    full("rate of a source, SYN", tcp(1053, Kind::Syn), SYN),
    full("MSS clamped, SYN", tcp(1060, Kind::Syn), SYN),
];
