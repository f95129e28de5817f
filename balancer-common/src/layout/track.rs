//! Flows and fragments that are remembered. Times are in the units of [`crate::clock`].

use crate::slot::BackendIndex;

/// The identity of a flow within its service: a keyed hash of addresses and ports.
pub type FlowKey = u64;

/// A flow whose backend its slot alone does not say. Whole words, as the verifier wants them on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowEntry {
    /// From the low end: backend (16 bits), the service's era when the flow began (8), whether more than the packet that
    /// began it was seen (8), slot (32).
    about: u64,
    seen: u64,
}

const CONFIRMED: u64 = 1 << 24;

impl FlowEntry {
    /// A flow that begins at `seen`.
    #[inline(always)]
    pub const fn begun(backend: BackendIndex, slot: u32, era: u8, seen: u32) -> Self {
        Self { about: backend as u64 | (era as u64) << 16 | (slot as u64) << 32, seen: seen as u64 }
    }

    #[inline(always)]
    pub const fn backend(&self) -> BackendIndex {
        self.about as BackendIndex
    }

    /// Of the service when the flow began: the slot is one of that era.
    #[inline(always)]
    pub const fn era(&self) -> u8 {
        (self.about >> 16) as u8
    }

    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        (self.about >> 32) as u32
    }

    #[inline(always)]
    pub const fn seen(&self) -> u32 {
        self.seen as u32
    }

    /// Whether more than the packet that began it was seen.
    #[inline(always)]
    pub const fn is_confirmed(&self) -> bool {
        self.about & CONFIRMED != 0
    }

    #[inline(always)]
    pub const fn confirmed(self) -> Self {
        Self { about: self.about | CONFIRMED, ..self }
    }

    /// Notes a packet. Writes only what differs, so that the line stays clean in other processors' caches.
    #[inline(always)]
    pub fn touch(&mut self, confirms: bool, now: u32) {
        if self.seen != now as u64 {
            self.seen = now as u64;
        }
        if confirms && !self.is_confirmed() {
            self.about |= CONFIRMED;
        }
    }
}

/// Of one slot, in one word: low half when a packet was last sent elsewhere than to its owner, high half when its
/// owner last changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Activity(pub u64);

impl Activity {
    pub const fn new(strayed: u32, opened: u32) -> Self {
        Self(strayed as u64 | (opened as u64) << 32)
    }

    #[inline(always)]
    pub const fn strayed(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub const fn opened(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What all fragments of a packet share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(C, align(8))]
pub struct FragmentKey {
    /// Words of the addresses, as in a service's key.
    source: [u64; 2],
    destination: [u64; 2],
    /// From the low end: identification, protocol, 4 or 6.
    selector: u64,
}

impl FragmentKey {
    #[inline(always)]
    pub const fn new(source: [u32; 4], destination: [u32; 4], id: u32, protocol: u8, family: u8) -> Self {
        let [a, b, c, d] = source;
        let [e, f, g, h] = destination;
        Self {
            source: [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32],
            destination: [e as u64 | (f as u64) << 32, g as u64 | (h as u64) << 32],
            selector: id as u64 | (protocol as u64) << 32 | (family as u64) << 40,
        }
    }
}

/// Where the first fragment of a packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FragmentEntry {
    /// Backend (low half; nobody where it was a reply to a client) and spare bits of the flow's hash.
    about: u64,
    /// Of a reply: what replaces the source.
    address: [u64; 2],
}

impl FragmentEntry {
    #[inline(always)]
    pub const fn forwarded(backend: BackendIndex, entropy: u32) -> Self {
        Self { about: backend as u64 | (entropy as u64) << 32, address: [0; 2] }
    }

    #[inline(always)]
    pub const fn reply(address: [u32; 4]) -> Self {
        let [a, b, c, d] = address;
        Self { about: 0, address: [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32] }
    }

    #[inline(always)]
    pub const fn backend(&self) -> BackendIndex {
        self.about as BackendIndex
    }

    /// The three words it is made of.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        [self.about, self.address[0], self.address[1]]
    }

    #[inline(always)]
    pub const fn from_words([about, low, high]: [u64; 3]) -> Self {
        Self { about, address: [low, high] }
    }

    #[inline(always)]
    pub const fn entropy(&self) -> u32 {
        (self.about >> 32) as u32
    }

    #[inline(always)]
    pub const fn address(&self) -> [u32; 4] {
        let [low, high] = self.address;
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }
}

/// A server id of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct ServerIdKey {
    /// Number of the service.
    pub service: u64,
    /// The bytes of the id as they lie in the packet, from the low end, the rest 0.
    pub id: u64,
}
