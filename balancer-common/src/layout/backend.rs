//! Backends.

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
    /// Generic UDP encapsulation with an outer IPv4 header.
    pub const GUE4: u8 = 5;
    /// Generic UDP encapsulation with an outer IPv6 header.
    pub const GUE6: u8 = 6;
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
    /// `nat`: the backend's port; `gue`: the port it receives on.
    pub port: u16,
    /// Largest IP packet that the way to the backend takes, outer headers included, in bytes.
    pub mtu: u16,
    /// One of [`forward`].
    pub forward: u8,
    /// `gue`: the variant, 0 or 1.
    pub variant: u8,
    /// VLAN of the next hop, 12 bits in host byte order; 0 is none.
    pub vlan: u16,
    /// Bytes that encapsulation adds.
    pub overhead: u16,
    pub _padding: [u8; 2],
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
