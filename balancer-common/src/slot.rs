//! A slot of a Maglev table and which of its two owners a packet goes to.

/// Index of a backend in the kernel's backend map, 15 bits; 0 is no backend.
pub type BackendIndex = u16;

pub const NO_BACKEND: BackendIndex = 0;

const INDEX: u32 = 0x7fff;
const OPEN: u32 = 1 << 31;

/// Two owners in 32 bits, from the low end: the owner in 16 bits, the settled owner in 15, and whether the slot is open.
/// A slot may be open although both are the same: after a change and the one back, flows that began between the two are
/// in the flow table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Slot(pub u32);

impl Slot {
    #[inline(always)]
    pub const fn open(owner: BackendIndex, settled: BackendIndex) -> Self {
        Self((owner as u32 & INDEX) | (settled as u32 & INDEX) << 16 | OPEN)
    }

    /// A slot that no change has touched: both owners are the same.
    #[inline(always)]
    pub const fn closed(owner: BackendIndex) -> Self {
        Self((owner as u32 & INDEX) | (owner as u32 & INDEX) << 16)
    }

    /// The backend that new flows get.
    #[inline(always)]
    pub const fn owner(self) -> BackendIndex {
        (self.0 & INDEX) as BackendIndex
    }

    /// The backend that flows begun before the last change keep.
    #[inline(always)]
    pub const fn settled(self) -> BackendIndex {
        ((self.0 >> 16) & INDEX) as BackendIndex
    }

    #[inline(always)]
    pub const fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }
}

/// Slots are stored two to a map value, because the kernel rounds array values up to 8 bytes.
pub const SLOTS_PER_VALUE: u32 = 2;

/// Where slot `slot` lies: the index of its value in the table's map.
#[inline(always)]
pub const fn value_index(slot: u32) -> u32 {
    slot / SLOTS_PER_VALUE
}

/// Slot `slot` out of its value.
#[inline(always)]
pub const fn from_value(value: u64, slot: u32) -> Slot {
    Slot((value >> ((slot % SLOTS_PER_VALUE) * 32)) as u32)
}

/// Values that a table of `slots` slots takes.
pub const fn values_for(slots: u32) -> u32 {
    slots.div_ceil(SLOTS_PER_VALUE)
}

/// Groups that the slots of a table fall into, a power of two.
pub const GROUPS: usize = 32;

/// New flows by group, modulo 2^32.
pub type GroupCounts = [u32; GROUPS];

/// The group of a slot. The slots of a backend lie all over the table, so that each group has about as many of them.
#[inline(always)]
pub const fn group(slot: u32) -> u32 {
    slot % GROUPS as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_two_slots() {
        let (even, odd) = (Slot::open(1, 2), Slot::closed(32_767));
        let value = u64::from(even.0) | u64::from(odd.0) << 32;
        assert_eq!((from_value(value, 10), from_value(value, 11)), (even, odd));
        assert_eq!((value_index(10), value_index(11), values_for(11)), (5, 5, 6));
        assert!(even.is_open() && !odd.is_open());
        assert_eq!((odd.owner(), odd.settled()), (32_767, 32_767));
        assert_eq!((even.owner(), even.settled()), (1, 2));
        assert!(Slot::open(7, 7).is_open());
    }
}
