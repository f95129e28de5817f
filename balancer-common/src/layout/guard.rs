//! Prefixes and rates.

/// Key of a map for longest-prefix match as the kernel takes it: the prefix length, 32 bits that always match whole, and
/// an address. Three words for the program, the same bytes as `(u32, [u32; 5])` for the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(C, align(8))]
pub struct LpmKey([u64; 3]);

impl LpmKey {
    /// Bits of head and address together.
    pub const LONGEST: u32 = 32 + 128;

    #[inline(always)]
    const fn new(prefix_len: u32, head: u32, address: [u32; 4]) -> Self {
        let [a, b, c, d] = address;
        Self([prefix_len as u64 | (head as u64) << 32, a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32])
    }

    /// In the map of services on prefixes: `port` in network byte order; port and protocol 0 ask whether any service is
    /// on the address, port 0 alone for one on all ports.
    #[inline(always)]
    pub const fn service(port: u16, protocol: u8, family: u8, address: [u32; 4]) -> Self {
        Self::new(Self::LONGEST, prefix_head(port, protocol, family), address)
    }

    /// In the lists of prefixes of a service.
    #[inline(always)]
    pub const fn source(number: u16, acl: u16, source: [u32; 4]) -> Self {
        Self::new(Self::LONGEST, acl_head(number, acl), source)
    }

    /// What follows the prefix length: head and address.
    pub const fn data(&self) -> [u32; 5] {
        let [a, b, c] = self.0;
        [(a >> 32) as u32, b as u32, (b >> 32) as u32, c as u32, (c >> 32) as u32]
    }
}

/// The 32 bits before the address of a service on a prefix.
pub const fn prefix_head(port: u16, protocol: u8, family: u8) -> u32 {
    port as u32 | (protocol as u32) << 16 | (family as u32) << 24
}

/// The 32 bits before the source in a list of prefixes.
pub const fn acl_head(number: u16, acl: u16) -> u32 {
    number as u32 | (acl as u32) << 16
}

/// A source of a service whose rate is watched: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(C, align(8))]
pub struct SourceKey {
    pub source: u64,
    /// From the low end: number of the service, 4 or 6.
    pub service: u64,
    pub _padding: u64,
}

/// A token bucket as the time at which it will be full again, in nanoseconds of [`crate::clock`]'s source (the generic
/// cell rate algorithm, ITU-T I.371): one word and no division.
pub type Bucket = u64;

/// Of a service, in nanoseconds: how long a token takes to come, and how much time's worth of tokens a full bucket holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct RateLimits {
    pub interval: u64,
    pub depth: u64,
    pub source_interval: u64,
    pub source_depth: u64,
}
