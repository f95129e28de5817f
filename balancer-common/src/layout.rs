//! Keys and values of the kernel's maps. Naturally aligned, padding explicit and zero. Addresses are words in the order
//! of their bytes in memory, ports in network byte order. What the program keeps on its stack is aligned to 8 bytes,
//! because the compiler copies it in words of 8 and the verifier refuses those anywhere else.

use crate::hash::HashKeys;

/// Raised whenever a map's key, value or meaning changes: a controller does not adopt maps of another layout.
pub const LAYOUT_VERSION: u32 = 1;

/// A service's address, port and protocol. With port and protocol 0: "this address is a VIP".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct ServiceKey {
    // Whole words: the verifier refuses the stores into which the compiler joins smaller ones, and the processor stalls
    // where the kernel's hash reads what was just written in parts.
    /// The address in the order of its bytes in memory; an IPv4 address stands in the first four.
    address: [u64; 2],
    /// From the low end: port in network byte order, IANA protocol number, 4 or 6.
    selector: u64,
}

impl ServiceKey {
    /// `port` in network byte order; `family` 4 or 6.
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

    /// The same with another port, in network byte order.
    #[inline(always)]
    pub const fn with_port(self, port: u16) -> Self {
        Self { selector: (self.selector & !0xffff) | port as u64, ..self }
    }

    /// The key that says whether the address belongs to any service.
    #[inline(always)]
    pub const fn address_only(self) -> Self {
        Self { selector: self.selector & (0xff << 24), ..self }
    }
}

/// What is constant in the life of a service; whatever changes stands in its table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceEntry {
    pub keys: HashKeys,
    /// Place of the service's table in the map of tables.
    pub table: u32,
    /// Slots of the table; 0 in an entry that only says that the address is a VIP.
    pub table_size: u32,
    /// All ones where source and destination port take part in the hash, 0 under client affinity.
    pub port_mask: u32,
    pub _padding: u32,
}

/// How packets get to a backend.
pub mod forward {
    /// The entry is not in use.
    pub const NONE: u8 = 0;
    pub const L2: u8 = 1;
    pub const NAT: u8 = 2;
    /// IP in IP with an outer IPv4 header.
    pub const IPIP4: u8 = 3;
    /// IP in IP with an outer IPv6 header.
    pub const IPIP6: u8 = 4;
}

/// Everything it takes to send a packet to a backend: one cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(8))]
pub struct BackendEntry {
    /// Of the next hop.
    pub mac: [u8; 6],
    /// Of the interface that leads there.
    pub source_mac: [u8; 6],
    /// The interface that leads to the next hop.
    pub ifindex: u32,
    pub address: [u32; 4],
    /// Outer source of encapsulated packets, host bits 0.
    pub outer_source: [u32; 4],
    /// Which bits of the last word of the outer source are filled from the flow hash.
    pub outer_source_mask: u32,
    pub port: u16,
    /// Largest IP packet that the interface takes, in bytes.
    pub mtu: u16,
    /// One of [`forward`].
    pub forward: u8,
    pub _padding: [u8; 7],
}

/// Per CPU; they only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct BackendCounters {
    pub packets: u64,
    /// Of IP packets as they came from the client.
    pub bytes: u64,
    pub new_flows: u64,
    pub _padding: u64,
}

/// Whose reply a packet is, by the address, port and protocol it comes from (`nat` only). The key is a [`ServiceKey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ReplyEntry {
    /// The service's address and port, which replace the source.
    pub address: [u32; 4],
    pub port: u16,
    pub _padding: [u8; 2],
}

/// One for the whole data plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Settings {
    pub layout_version: u32,
    /// 1 where any service is `nat`, so that others pay nothing for looking up replies.
    pub nat: u32,
    /// Drawn when the maps were made; ties the controller's notes to these very maps.
    pub instance: u64,
}

const _: () = {
    assert!(size_of::<ServiceKey>() == 24);
    assert!(size_of::<ServiceEntry>() == 32);
    assert!(size_of::<BackendEntry>() == 64);
    assert!(core::mem::offset_of!(BackendEntry, address) == 16);
    assert!(core::mem::offset_of!(BackendEntry, forward) == 56);
    assert!(size_of::<BackendCounters>() == 32);
    assert!(size_of::<ReplyEntry>() == 20);
    assert!(size_of::<Settings>() == 16);
};

#[cfg(feature = "user")]
mod pod {
    use super::{BackendCounters, BackendEntry, ReplyEntry, ServiceEntry, ServiceKey, Settings};

    // SAFETY: `repr(C)`, `Copy`, integers only and no implicit padding (the sizes above).
    unsafe impl aya::Pod for ServiceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServiceEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BackendEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BackendCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReplyEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}
