//! Flows and fragments that are remembered. Times are in the units of [`crate::clock`].

use crate::slot::BackendIndex;

/// The identity of a flow within its service: a keyed hash of addresses and ports.
pub type FlowKey = u64;

/// A flow whose backend its slot alone does not say, in one word: with its key and what the kernel keeps of it that is one
/// cache line. From the low end: backend (15 bits), whether more than the packet that began it was seen (1), slot (20),
/// the service's era when it began (8), when it was last seen (20, which wrap after 13 days).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct FlowEntry(pub u64);

const CONFIRMED: u64 = 1 << 15;
const SLOT_AT: u32 = 16;
const ERA_AT: u32 = 36;
const SEEN_AT: u32 = 44;
const SLOT_MASK: u64 = (1 << (ERA_AT - SLOT_AT)) - 1;
const SEEN_MASK: u32 = (1 << (64 - SEEN_AT)) - 1;

impl FlowEntry {
    /// A flow that begins at `seen`.
    #[inline(always)]
    pub const fn begun(backend: BackendIndex, slot: u32, era: u8, seen: u32) -> Self {
        let backend = backend as u64 & (CONFIRMED - 1);
        let slot = (slot as u64 & SLOT_MASK) << SLOT_AT;
        Self(backend | slot | (era as u64) << ERA_AT | (seen as u64) << SEEN_AT)
    }

    #[inline(always)]
    pub const fn backend(&self) -> BackendIndex {
        (self.0 & (CONFIRMED - 1)) as BackendIndex
    }

    /// Of the service when the flow began: the slot is one of that era.
    #[inline(always)]
    pub const fn era(&self) -> u8 {
        (self.0 >> ERA_AT) as u8
    }

    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        (self.0 >> SLOT_AT & SLOT_MASK) as u32
    }

    /// How long ago a packet was seen; 0 where that lies ahead (see [`crate::clock::since`]).
    #[inline(always)]
    pub const fn idle(&self, now: u32) -> u32 {
        let age = now.wrapping_sub((self.0 >> SEEN_AT) as u32) & SEEN_MASK;
        if age > SEEN_MASK / 2 { 0 } else { age }
    }

    /// Whether more than the packet that began it was seen.
    #[inline(always)]
    pub const fn is_confirmed(&self) -> bool {
        self.0 & CONFIRMED != 0
    }

    #[inline(always)]
    pub const fn confirmed(self) -> Self {
        Self(self.0 | CONFIRMED)
    }

    /// Notes a packet. Writes only what differs, so that the line stays clean in other processors' caches.
    #[inline(always)]
    pub fn touch(&mut self, confirms: bool, now: u32) {
        let seen = self.0 << (64 - SEEN_AT) >> (64 - SEEN_AT) | (now as u64) << SEEN_AT;
        let touched = if confirms { seen | CONFIRMED } else { seen };
        if touched != self.0 {
            self.0 = touched;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_fits_one_word() {
        let now = 0xfff_fffe;
        let mut flow = FlowEntry::begun(32_767, 1_048_572, 200, now);
        let same = |flow: &FlowEntry| (flow.backend(), flow.slot(), flow.era()) == (32_767, 1_048_572, 200);
        assert!(same(&flow) && !flow.is_confirmed() && flow.confirmed().is_confirmed());
        assert_eq!((flow.idle(now), flow.idle(now + 5), flow.idle(now - 1)), (0, 5, 0));
        flow.touch(true, now + 7);
        assert!(same(&flow) && flow.is_confirmed());
        assert_eq!((flow.idle(now + 7), flow.idle(now + 8)), (0, 1));
    }
}
