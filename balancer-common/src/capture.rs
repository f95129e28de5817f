//! What the program tells the controller: packets that are watched, fragments that came before their first one, and path
//! MTUs that routers told.

use crate::tables::WatchedFlow;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Kind {
    /// A frame as it came in.
    Entry = 1,
    /// The same frame as it leaves, or as it was when it was dropped.
    Exit = 2,
    /// A fragment to be sent in again.
    Fragment = 3,
    /// A path MTU: `address`, `family` and `mtu`.
    PathMtu = 4,
}

/// Bytes of a frame that a record takes.
pub const SNAP: usize = 2048;
/// Bytes of a frame that is watched; a power of two.
pub const WATCHED_SNAP: u32 = 256;

/// `service` where the packet is for none.
pub const NO_SERVICE: u32 = u32::MAX;

/// Without the frame's bytes, which follow it. Whole words, as the verifier wants them on the stack.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Head {
    /// A [`Kind`].
    pub kind: u64,
    /// Of an exit, the word of a [`crate::verdict::Verdict`].
    pub outcome: u64,
    /// The interface it came in on.
    pub ifindex: u64,
    /// Number of the service, or [`NO_SERVICE`].
    pub service: u64,
    /// Slot (low half) and backend.
    pub way: u64,
    /// Of the whole frame in bytes.
    pub length: u64,
    /// Bytes of it that follow.
    pub captured: u64,
    /// Pairs an entry with its exit: processor (high half) and number.
    pub sequence: u64,
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    /// Of a path MTU: the words of the address, its family, and bytes.
    pub address: [u64; 2],
    pub family: u64,
    pub mtu: u64,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Record {
    pub head: Head,
    pub frame: [u8; SNAP],
}

/// Whose packets are watched, and how many a second on each processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Filter {
    /// A number, or [`NO_SERVICE`] for packets of all.
    pub service: u64,
    /// 1 where only `flow` is watched.
    pub by_flow: u64,
    pub flow: WatchedFlow,
    /// One in so many is taken.
    pub one_in: u64,
    /// Nanoseconds between two packets on one processor, at the rate allowed.
    pub interval: u64,
    /// The same, for as many as may come at once.
    pub depth: u64,
}

/// Per CPU: whether the packet under way is watched, the token bucket, and a sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Watch {
    pub bucket: u64,
    pub sequence: u32,
    pub active: u32,
}

impl Filter {
    /// Whether a packet of this service and flow is to be watched.
    #[inline(always)]
    pub fn wants(&self, service: u64, flow: &WatchedFlow) -> bool {
        (self.service == NO_SERVICE as u64 || self.service == service) && (self.by_flow == 0 || self.flow == *flow)
    }
}

const _: () = {
    assert!(size_of::<Head>() == 104);
    assert!(size_of::<Record>() == 104 + SNAP);
    assert!(size_of::<Filter>() == 88);
    assert!(size_of::<Watch>() == 16);
};

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, `Copy`, integers only and no implicit padding (the sizes above).
    unsafe impl aya::Pod for super::Filter {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Watch {}
}
