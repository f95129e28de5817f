//! Maglev tables in the kernel: made, filled, published whole, and read back. The slots of a published table change one
//! by one only where they close.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use balancer_common::slot::{self, BackendIndex, Slot};
use siphasher::sip::SipHasher13;

use super::mapped::Mapped;

const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// A table that no packet has seen yet.
pub struct NewTable {
    pub(super) map: MapData,
    pub counts: TableCounts,
}

/// What a table holds, without its slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCounts {
    pub slots: u32,
    /// Slots each backend owns; [`slot::NO_BACKEND`] is never among them.
    pub owned: BTreeMap<BackendIndex, u32>,
    /// Open slots by their settled owner, nobody included.
    pub settled: BTreeMap<BackendIndex, u32>,
    /// Open slots.
    pub open: u32,
    /// Of the owners, in order.
    pub digest: u64,
}

impl NewTable {
    pub fn new(slots: &[Slot]) -> Result<Self> {
        let count = slots.len() as u32;
        let values = slot::values_for(count);
        let map = empty_map(values).with_context(|| format!("making a table of {count} slots"))?;
        let mapped = Mapped::new(map.fd().as_fd(), values as usize).context("mapping a new table")?;
        mapped.write(0, &values_of(slots));
        Ok(Self { map, counts: TableCounts::of(slots) })
    }

    /// What stands in it.
    pub(super) fn slots(&self) -> Result<Vec<Slot>> {
        read_slots(&self.map, self.counts.slots)
    }

    /// Other slots, as many; the counts stay what they were.
    pub(super) fn overwrite(&self, slots: &[Slot]) -> Result<()> {
        let values = values_of(slots);
        let mapped = Mapped::new(self.map.fd().as_fd(), values.len()).context("mapping a table")?;
        mapped.write(0, &values);
        Ok(())
    }
}

/// Slots as a table's map holds them.
fn values_of(slots: &[Slot]) -> Vec<u64> {
    let pair = |pair: &[Slot]| u64::from(pair[0].0) | u64::from(pair.get(1).map_or(0, |slot| slot.0)) << 32;
    slots.chunks(slot::SLOTS_PER_VALUE as usize).map(pair).collect()
}

/// A map that can stand in a map of tables.
pub(super) fn empty_map(values: u32) -> Result<MapData> {
    let flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE;
    let definition = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, 8, values, flags);
    Ok(MapData::create(definition, "TABLE", None)?)
}

impl TableCounts {
    pub fn of(slots: &[Slot]) -> Self {
        let (mut owned, mut settled) = (vec![0u32; 1 << 15], vec![0u32; 1 << 15]);
        let mut open = 0;
        let mut digest = SipHasher13::new();
        for slot in slots {
            digest.write_u16(slot.owner());
            owned[usize::from(slot.owner())] += 1;
            if slot.is_open() {
                open += 1;
                settled[usize::from(slot.settled())] += 1;
            }
        }
        let counted = |counts: &[u32], first: usize| {
            let present = counts.iter().enumerate().skip(first).filter(|(_, count)| **count > 0);
            present.map(|(index, count)| (index as BackendIndex, *count)).collect()
        };
        Self {
            slots: slots.len() as u32,
            owned: counted(&owned, 1),
            settled: counted(&settled, 0),
            open,
            digest: digest.finish(),
        }
    }

    /// The fraction of slots a backend owns; `None` where nobody owns any.
    pub fn share(&self, backend: BackendIndex) -> Option<f64> {
        let all: u64 = self.owned.values().map(|n| u64::from(*n)).sum();
        (all > 0).then(|| f64::from(self.owned.get(&backend).copied().unwrap_or(0)) / all as f64)
    }
}

/// All slots of the table at `map`.
pub(super) fn read_slots(map: &MapData, slots: u32) -> Result<Vec<Slot>> {
    let values = map.info()?.max_entries();
    anyhow::ensure!(values == slot::values_for(slots), "the table has {values} values, which {slots} slots don't take");
    let mapped = Mapped::new(map.fd().as_fd(), values as usize).context("mapping a table")?;
    let mut read = Vec::with_capacity(slots as usize + 1);
    for word in mapped.words() {
        let value = word.load(Ordering::Relaxed);
        read.extend([Slot(value as u32), Slot((value >> 32) as u32)]);
    }
    read.truncate(slots as usize);
    Ok(read)
}

/// Writes single slots of a table that packets read: each is a half word and changes at once.
pub(super) fn write_slots(map: &MapData, slots: &[(u32, Slot)]) -> Result<()> {
    let values = map.info()?.max_entries();
    let mapped = Mapped::new(map.fd().as_fd(), values as usize).context("mapping a table")?;
    for (place, slot) in slots {
        let word = mapped.words().get(slot::value_index(*place) as usize).context("the slot lies beyond the table")?;
        let half = (place % slot::SLOTS_PER_VALUE) as usize;
        let half = if cfg!(target_endian = "big") { 1 - half } else { half };
        // SAFETY: an aligned half of a word that lives as long as the mapping; nobody else writes slots.
        let half = unsafe { AtomicU32::from_ptr(word.as_ptr().cast::<u32>().add(half)) };
        half.store(slot.0, Ordering::Release);
    }
    Ok(())
}

/// One slot of a table read back from the kernel.
pub(super) fn read_slot(map: &MapData, place: u32) -> Result<Slot> {
    let values = map.info()?.max_entries();
    let mapped = Mapped::new(map.fd().as_fd(), values as usize)?;
    let value = mapped.get(slot::value_index(place) as usize).context("the slot lies beyond the table")?;
    Ok(slot::from_value(value, place))
}

/// Pins `map` at `path` in the place of what may be there.
pub(super) fn pin_over(map: &MapData, path: &Path) -> Result<()> {
    // The BPF file system renames within itself atomically.
    let fresh = path.with_extension("").with_file_name(format!(
        "{}_new",
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    ));
    let _ = std::fs::remove_file(&fresh);
    map.pin(&fresh).with_context(|| format!("pinning {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("pinning {}", path.display()))
}
