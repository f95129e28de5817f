//! Keys and values of the kernel's maps. Naturally aligned, padding explicit and zero. Addresses are words in the order
//! of their bytes in memory, ports in network byte order unless said otherwise. What the program keeps on its stack is
//! made of whole words of 8 bytes: the verifier refuses the stores into which the compiler joins smaller ones, and the
//! processor stalls where the kernel reads what was just written in parts.

mod backend;
mod guard;
mod key;
mod service;
mod track;

pub use backend::{BackendCounters, BackendEntry, forward};
pub use guard::{Bucket, LpmKey, RateLimits, SourceKey, acl_head, prefix_head};
pub use key::{Kind, ServiceKey};
pub use service::{Former, IndexEntry, PortRange, ServiceCounters, ServiceEntry, flags};
pub use track::{Activity, FlowEntry, FlowKey, FragmentEntry, FragmentKey, ServerIdKey};

/// Raised whenever a map's key, value or meaning changes: a controller does not adopt maps of another layout.
pub const LAYOUT_VERSION: u32 = 3;

/// One for the whole data plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Settings {
    pub layout_version: u32,
    /// One of [`gates`] each, so that what nobody uses costs nobody anything.
    pub gates: u32,
    /// Drawn when the maps were made; ties the controller's notes to these very maps.
    pub instance: u64,
    /// Which part of the index is in force (see [`crate::index`]); one word, so that it changes at once.
    pub index: u64,
    /// Keys of flow identities, drawn when the maps were made.
    pub identity: [u64; 2],
    /// Of [`crate::capture`]; 0 is off.
    pub capture: u64,
    /// Of [`crate::clock`].
    pub clock: u64,
    pub _padding: u64,
}

/// What is in use at all.
pub mod gates {
    /// Services that forward by `nat`.
    pub const NAT: u32 = 1;
    /// Services on address prefixes.
    pub const PREFIXES: u32 = 2;
    /// Services on ranges of ports.
    pub const RANGES: u32 = 4;
    /// Services on more than one port of one address.
    pub const WIDE: u32 = PREFIXES | RANGES;
}

const _: () = {
    assert!(size_of::<ServiceKey>() == 24);
    assert!(size_of::<ServiceEntry>() == 40);
    assert!(size_of::<IndexEntry>() == 64);
    assert!(size_of::<Former>() == 32);
    assert!(size_of::<PortRange>() == 8);
    assert!(size_of::<ServiceCounters>() == 72);
    assert!(size_of::<BackendEntry>() == 64);
    assert!(core::mem::offset_of!(BackendEntry, address) == 16);
    assert!(core::mem::offset_of!(BackendEntry, forward) == 56);
    assert!(size_of::<BackendCounters>() == 32);
    assert!(size_of::<FlowEntry>() == 8);
    assert!(size_of::<FragmentKey>() == 40);
    assert!(size_of::<FragmentEntry>() == 24);
    assert!(size_of::<ServerIdKey>() == 16);
    assert!(size_of::<LpmKey>() == 24);
    assert!(size_of::<SourceKey>() == 24);
    assert!(size_of::<RateLimits>() == 32);
    assert!(size_of::<Settings>() == 64);
};

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($name:ident),*) => {$(
            // SAFETY: `repr(C)`, `Copy`, integers only and no implicit padding (the sizes above).
            unsafe impl aya::Pod for super::$name {}
        )*};
    }
    pod!(ServiceKey, ServiceEntry, IndexEntry, Former, PortRange, ServiceCounters, BackendEntry, BackendCounters);
    pod!(FlowEntry, FragmentKey, FragmentEntry, ServerIdKey, SourceKey, RateLimits, Settings);
}
