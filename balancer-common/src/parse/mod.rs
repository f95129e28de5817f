//! Bytes to [`Packet`].

mod icmp;
mod ipv4;
mod ipv6;
mod transport;

use crate::frame::Frame;
use crate::headers::{Be16, ETHER_IPV4, ETHER_IPV6, Ethernet};
use crate::layout::{FragmentKey, ServiceKey};
use crate::tables::WatchedFlow;
use crate::verdict::Reason;

pub(crate) use icmp::{is_transport, quoted_header, within};
pub(crate) use ipv4::martian as ipv4_martian;
pub use ipv6::MOST_EXTENSIONS;
pub(crate) use ipv6::martian as ipv6_martian;

/// What a packet says of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Role {
    /// The flow begins with it: TCP SYN, SCTP INIT.
    Opening,
    /// The flow began before.
    Within,
    /// Either (UDP).
    Datagram,
    /// An ICMP error about the flow: addresses and ports are those of the flow, not of the error.
    Error,
}

/// What the way to a backend asks of a packet, in memory or in registers.
pub(crate) trait View {
    fn is_ipv6(&self) -> bool;
    fn source(&self) -> [u32; 4];
    fn ports(&self) -> u32;
    fn length(&self) -> u16;
    fn role(&self) -> Role;
    fn is_fragmented(&self) -> bool;
    /// For steps that want all of it.
    fn whole<R>(&self, use_it: impl FnOnce(&Packet) -> R) -> R;
}

impl View for Packet {
    #[inline(always)]
    fn is_ipv6(&self) -> bool {
        self.is_ipv6()
    }

    #[inline(always)]
    fn source(&self) -> [u32; 4] {
        self.source()
    }

    #[inline(always)]
    fn ports(&self) -> u32 {
        self.ports()
    }

    #[inline(always)]
    fn length(&self) -> u16 {
        self.length()
    }

    #[inline(always)]
    fn role(&self) -> Role {
        self.role
    }

    #[inline(always)]
    fn is_fragmented(&self) -> bool {
        self.is_fragmented()
    }

    #[inline(always)]
    fn whole<R>(&self, use_it: impl FnOnce(&Packet) -> R) -> R {
        use_it(self)
    }
}

/// What is read of a packet. One struct for every outcome, written in place: of an enum with several of them the compiler
/// copies fields that nothing wrote, which the verifier refuses. Whole words, as it wants them on the stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Packet {
    /// Where it goes, as the key of its service; the port is 0 where it is not known.
    pub destination: ServiceKey,
    source: [u64; 2],
    ports: u64,
    length: u64,
    /// Identification of the packet that this is a fragment of.
    fragment_id: u64,
    transport: u64,
    pub role: Role,
    fragmented: u64,
}

impl Default for Packet {
    #[inline(always)]
    fn default() -> Self {
        Self {
            destination: ServiceKey::new([0; 4], 0, 0, 0),
            source: [0; 2],
            ports: 0,
            length: 0,
            fragment_id: 0,
            transport: 0,
            role: Role::Within,
            fragmented: 0,
        }
    }
}

impl Packet {
    /// A whole one. `ports` as [`Packet::ports`], `length` of the IP packet, `transport` from the start of the frame.
    #[inline(always)]
    pub(crate) fn of_flow(
        destination: ServiceKey,
        source: [u32; 4],
        ports: u32,
        length: u16,
        transport: usize,
        role: Role,
        fragment_id: u16,
    ) -> Self {
        let mut packet = Self {
            destination,
            ports: u64::from(ports),
            length: u64::from(length),
            fragment_id: u64::from(fragment_id),
            transport: transport as u64,
            role,
            ..Self::default()
        };
        packet.set_source(source);
        packet
    }

    #[inline(always)]
    pub fn is_ipv6(&self) -> bool {
        self.destination.family() == 6
    }

    #[inline(always)]
    pub fn source(&self) -> [u32; 4] {
        let [low, high] = self.source;
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    #[inline(always)]
    fn set_source(&mut self, source: [u32; 4]) {
        let [a, b, c, d] = source;
        self.source = [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32];
    }

    /// Source port (low half) and destination port (high half) as they lie in the packet.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        self.ports as u32
    }

    /// Of the IP packet, in bytes.
    #[inline(always)]
    pub fn length(&self) -> u16 {
        self.length as u16
    }

    /// Offset of the transport header (of ICMP: of the ICMP header) from the start of the frame. The verifier must see that
    /// it is small.
    #[inline(always)]
    pub fn transport(&self) -> usize {
        (self.transport & FARTHEST) as usize
    }

    /// Whether it is the first fragment of several.
    #[inline(always)]
    pub fn is_fragmented(&self) -> bool {
        self.fragmented != 0
    }

    /// The flow, for those who watch.
    #[inline(always)]
    pub fn flow(&self) -> WatchedFlow {
        WatchedFlow { destination: self.destination, source: self.source, ports: self.ports }
    }

    /// What all fragments of the packet share.
    #[inline(always)]
    pub fn fragment_key(&self) -> FragmentKey {
        let to = &self.destination;
        // Fragments of an IPv6 packet need not agree on the protocol they name (RFC 8200, 4.5): it is left out.
        let protocol = if self.is_ipv6() { 0 } else { to.protocol() };
        FragmentKey::new(self.source(), to.address(), self.fragment_id as u32, protocol, to.family())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A packet of a flow, with whole headers as far as they are needed.
    Packet,
    /// A fragment that is not the first of its packet: it says neither ports nor flags.
    Fragment,
    /// An ICMP echo request, to be answered where the address is a VIP.
    Echo,
    /// Nothing that a service could want.
    Foreign,
    /// It can't be forwarded; it is dropped only where the address is a VIP.
    Unusable(Reason),
}

/// Offset of the IP header: frames with VLAN tags are parsed after these were taken off (see [`crate::vlan`]).
pub const NETWORK: usize = Ethernet::LEN;

#[inline(always)]
pub fn parse<F: Frame>(frame: &mut F, packet: &mut Packet) -> Parsed {
    let Some(ethernet) = frame.at::<Ethernet>(0) else { return Parsed::Foreign };
    match ethernet.ether_type {
        ETHER_IPV4 => ipv4::parse(frame, packet),
        ETHER_IPV6 => ipv6::parse(frame, packet),
        _ => Parsed::Foreign,
    }
}

/// Bytes before the transport header are at most so many; a bit mask.
const FARTHEST: u64 = 0x3ff;

impl Parsed {
    /// In one word, for the program's function that parses.
    #[inline(always)]
    pub const fn to_word(self) -> u32 {
        match self {
            Self::Foreign => 0,
            Self::Packet => 1,
            Self::Fragment => 2,
            Self::Echo => 3,
            Self::Unusable(reason) => 4 + reason as u32,
        }
    }

    /// A word that none is stands for [`Parsed::Foreign`].
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Foreign,
            1 => Self::Packet,
            2 => Self::Fragment,
            3 => Self::Echo,
            _ => match Reason::from_index(word - 4) {
                Some(reason) => Self::Unusable(reason),
                None => Self::Foreign,
            },
        }
    }
}

/// Both ports in the word that is hashed.
#[inline(always)]
pub fn ports(source: Be16, destination: Be16) -> u32 {
    u32::from(source.0) | (u32::from(destination.0) << 16)
}
