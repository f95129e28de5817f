//! A table that packets read, and what was written to it: enough to see whether somebody else wrote too.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use balancer_common::slot::{self, Slot};

use super::mapped::Mapped;
use super::table::empty_map;

/// A sum over slots, each times an odd number of its own: one slot that differs always shows, and slots can be exchanged
/// one by one without the others being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    pub(super) fn of(slots: &[Slot]) -> Self {
        let term = |(place, slot): (usize, &Slot)| Self::term(place as u32, *slot);
        Self(slots.iter().enumerate().map(term).fold(0, u64::wrapping_add))
    }

    fn term(place: u32, slot: Slot) -> u64 {
        /// 2^64 over the golden ratio, as in Fibonacci hashing.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        u64::from(slot.0).wrapping_mul(u64::from(place).wrapping_mul(STEP) | 1)
    }

    fn exchange(&mut self, place: u32, before: Slot, after: Slot) {
        self.0 = self.0.wrapping_sub(Self::term(place, before)).wrapping_add(Self::term(place, after));
    }
}

/// A table, in the map of tables or about to be.
pub(super) struct Published {
    /// Open for as long as this value: whoever deletes it from the map of tables takes it from no one here.
    pub(super) map: MapData,
    mapped: Mapped,
    /// The kernel's number of the map.
    pub(super) id: u32,
    count: u32,
    digest: Digest,
    /// The slots as written, while any is open: settled owners stand nowhere else.
    open: Option<Vec<Slot>>,
}

/// Which table stands at a place, and what was written to it: the same where neither is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    id: u32,
    digest: Digest,
}

impl Published {
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { id: self.id, digest: self.digest }
    }

    /// A new table with these slots.
    pub(super) fn new(slots: &[Slot]) -> Result<Self> {
        let count = slots.len() as u32;
        let map = empty_map(slot::values_for(count)).with_context(|| format!("making a table of {count} slots"))?;
        let mut table = Self::of(map, count)?;
        table.overwrite(slots);
        Ok(table)
    }

    /// A table of which nothing is known but what it holds now.
    pub(super) fn adopt(map: MapData, count: u32) -> Result<Self> {
        let mut table = Self::of(map, count)?;
        table.remember(&table.read());
        Ok(table)
    }

    fn of(map: MapData, count: u32) -> Result<Self> {
        let info = map.info()?;
        let (values, id) = (info.max_entries(), info.id());
        ensure!(values == slot::values_for(count), "the table has {values} values, which {count} slots don't take");
        let mapped = Mapped::new(map.fd().as_fd(), values as usize).context("mapping a table")?;
        Ok(Self { map, mapped, id, count, digest: Digest::default(), open: None })
    }

    /// Writes other slots, as many.
    pub(super) fn overwrite(&mut self, slots: &[Slot]) {
        let pair = |pair: &[Slot]| u64::from(pair[0].0) | u64::from(pair.get(1).map_or(0, |slot| slot.0)) << 32;
        let values: Vec<u64> = slots.chunks(slot::SLOTS_PER_VALUE as usize).map(pair).collect();
        self.mapped.write(0, &values);
        self.remember(slots);
    }

    fn remember(&mut self, slots: &[Slot]) {
        self.digest = Digest::of(slots);
        self.open = slots.iter().any(|slot| slot.is_open()).then(|| slots.to_vec());
    }

    /// As the map of tables takes it.
    pub(super) fn descriptor(&self) -> u32 {
        self.map.fd().as_fd().as_raw_fd() as u32
    }

    /// What the kernel holds.
    pub(super) fn read(&self) -> Vec<Slot> {
        let mut read = Vec::with_capacity(self.count as usize + 1);
        for word in self.mapped.words() {
            let value = word.load(Ordering::Relaxed);
            read.extend([Slot(value as u32), Slot((value >> 32) as u32)]);
        }
        read.truncate(self.count as usize);
        read
    }

    pub(super) fn slot(&self, place: u32) -> Option<Slot> {
        let value = self.mapped.get(slot::value_index(place) as usize)?;
        Some(slot::from_value(value, place))
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether the kernel holds what was written.
    pub(super) fn is_as_written(&self) -> bool {
        let mut sum = 0u64;
        for (pair, word) in self.mapped.words().iter().enumerate() {
            let (value, place) = (word.load(Ordering::Relaxed), pair as u32 * slot::SLOTS_PER_VALUE);
            sum = sum.wrapping_add(Digest::term(place, Slot(value as u32)));
            sum = sum.wrapping_add(Digest::term(place + 1, Slot((value >> 32) as u32)));
        }
        Digest(sum) == self.digest
    }

    /// The slots as they were written: `owners` says what a table without open slots holds.
    pub(super) fn as_written(&self, owners: impl FnOnce() -> Vec<Slot>) -> Vec<Slot> {
        match &self.open {
            Some(slots) => slots.clone(),
            None if self.is_as_written() => self.read(),
            None => owners(),
        }
    }

    /// Writes single slots: each is a half word and changes at once.
    pub(super) fn write(&mut self, slots: &[(u32, Slot)]) -> Result<()> {
        for (place, slot) in slots {
            let before = match &mut self.open {
                Some(open) => open.get_mut(*place as usize).map(|there| std::mem::replace(there, *slot)),
                None => self.slot(*place),
            };
            let before = before.with_context(|| format!("slot {place} lies beyond the table"))?;
            self.put(*place, *slot)?;
            self.digest.exchange(*place, before, *slot);
        }
        if self.open.as_ref().is_some_and(|open| !open.iter().any(|slot| slot.is_open())) {
            self.open = None;
        }
        Ok(())
    }

    /// Writes one slot, and does not remember that.
    pub(super) fn put(&self, place: u32, slot: Slot) -> Result<()> {
        let word =
            self.mapped.words().get(slot::value_index(place) as usize).context("the slot lies beyond the table")?;
        let half = (place % slot::SLOTS_PER_VALUE) as usize;
        let half = if cfg!(target_endian = "big") { 1 - half } else { half };
        // SAFETY: an aligned half of a word that lives as long as the mapping; nobody else should write slots.
        let half = unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(half)) };
        half.store(slot.0, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_follows_exchanges_and_shows_any_other_slot() {
        let mut slots: Vec<Slot> = (0..1001).map(|n| Slot::closed(n % 7 + 1)).collect();
        let mut digest = Digest::of(&slots);
        digest.exchange(500, slots[500], Slot::open(1, 2));
        slots[500] = Slot::open(1, 2);
        assert_eq!(digest, Digest::of(&slots));
        slots.swap(3, 4);
        assert_ne!(digest, Digest::of(&slots));
        slots.swap(3, 4);
        slots[1000] = Slot::closed(9);
        assert_ne!(digest, Digest::of(&slots));
    }
}
