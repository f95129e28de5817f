//! What packets are looked up by.

/// What an entry of the index is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A service on one port; with the lowest port of several one on a range.
    Service = 0,
    /// An address that services are on; port and protocol are 0.
    Address = 1,
    /// Whose reply a packet is, by the address, port and protocol it comes from (`nat` only).
    Reply = 2,
    /// A service on several ports, by the lowest of them.
    Range = 3,
}

/// An address, a port, a protocol and a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
#[repr(C, align(8))]
pub struct ServiceKey {
    /// The address in the order of its bytes in memory; an IPv4 address stands in the first four.
    address: [u64; 2],
    /// From the low end: port in network byte order, IANA protocol number, 4 or 6, kind.
    selector: u64,
}

impl ServiceKey {
    /// `port` in network byte order; `family` 4 or 6. The kind is [`Kind::Service`].
    #[inline(always)]
    pub const fn new(address: [u32; 4], port: u16, protocol: u8, family: u8) -> Self {
        let [a, b, c, d] = address;
        Self {
            address: [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32],
            selector: port as u64 | (protocol as u64) << 16 | (family as u64) << 24,
        }
    }

    /// An IPv4 address stands in the first word, the others are 0.
    #[inline(always)]
    pub const fn address(&self) -> [u32; 4] {
        let [low, high] = self.address;
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    /// The three words it is made of.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        [self.address[0], self.address[1], self.selector]
    }

    /// In network byte order.
    #[inline(always)]
    pub const fn port(&self) -> u16 {
        self.selector as u16
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.selector >> 16) as u8
    }

    /// 4 or 6.
    #[inline(always)]
    pub const fn family(&self) -> u8 {
        (self.selector >> 24) as u8
    }

    /// A [`Kind`] as a number; 0 in what no entry uses.
    #[inline(always)]
    pub const fn kind(&self) -> u8 {
        (self.selector >> 32) as u8
    }

    /// Whether this is no key at all: the address's family says so.
    pub const fn is_empty(&self) -> bool {
        self.family() == 0
    }

    /// The same with another port, in network byte order.
    #[inline(always)]
    pub const fn with_port(self, port: u16) -> Self {
        Self { selector: (self.selector & !0xffff) | port as u64, ..self }
    }

    #[inline(always)]
    pub const fn with_kind(self, kind: Kind) -> Self {
        Self { selector: (self.selector & 0xffff_ffff) | (kind as u64) << 32, ..self }
    }

    /// The key that says whether services are on the address.
    #[inline(always)]
    pub const fn address_only(self) -> Self {
        Self { selector: (self.selector & (0xff << 24)) | (Kind::Address as u64) << 32, ..self }
    }
}
