//! Maglev tables in the kernel: made, filled, published whole, and read back.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::os::fd::AsFd;
use std::path::Path;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCounts {
    pub slots: u32,
    /// Slots each backend owns; [`slot::NO_BACKEND`] is never among them.
    pub owned: BTreeMap<BackendIndex, u32>,
    /// Slots whose owner and settled owner differ.
    pub open: u32,
    pub digest: u64,
}

impl NewTable {
    /// A table with these owners, all slots closed.
    pub fn new(owners: &[BackendIndex]) -> Result<Self> {
        let slots = owners.len() as u32;
        let values = slot::values_for(slots);
        let map = empty_map(values).with_context(|| format!("making a table of {slots} slots"))?;
        let mut mapped = Mapped::new(map.fd().as_fd(), values).context("mapping a new table")?;
        for (value, pair) in mapped.values_mut().iter_mut().zip(owners.chunks(slot::SLOTS_PER_VALUE as usize)) {
            let low = Slot::closed(pair[0]);
            let high = Slot::closed(pair.get(1).copied().unwrap_or_default());
            *value = u64::from(low.0) | (u64::from(high.0) << 32);
        }
        let counts = TableCounts::of(mapped.values(), slots);
        Ok(Self { map, counts })
    }
}

fn empty_map(values: u32) -> Result<MapData> {
    let flags = BPF_F_INNER_MAP | BPF_F_MMAPABLE;
    let definition = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_ARRAY as u32, 4, 8, values, flags);
    Ok(MapData::create(definition, "TABLE", None)?)
}

impl TableCounts {
    fn of(values: &[u64], slots: u32) -> Self {
        let mut per_index = vec![0u32; usize::from(BackendIndex::MAX) + 1];
        let mut open = 0;
        let mut digest = SipHasher13::new();
        for value in values {
            digest.write_u64(*value);
        }
        for place in 0..slots {
            let slot = slot::from_value(values[slot::value_index(place) as usize], place);
            per_index[usize::from(slot.owner())] += 1;
            open += u32::from(slot.is_open());
        }
        let owned = (1..=BackendIndex::MAX).filter(|i| per_index[usize::from(*i)] > 0);
        let owned = owned.map(|i| (i, per_index[usize::from(i)])).collect();
        Self { slots, owned, open, digest: digest.finish() }
    }

    /// Reads the table at `map` back from the kernel's memory.
    pub(super) fn read(map: &MapData, slots: u32) -> Result<Self> {
        let values = map.info()?.max_entries().min(slot::values_for(slots));
        anyhow::ensure!(values == slot::values_for(slots), "the table has {values} values, too few for {slots} slots");
        let mapped = Mapped::new(map.fd().as_fd(), values).context("mapping a table")?;
        Ok(Self::of(mapped.values(), slots))
    }

    /// The fraction of slots a backend owns; `None` where nobody owns any.
    pub fn share(&self, backend: BackendIndex) -> Option<f64> {
        let all: u64 = self.owned.values().map(|n| u64::from(*n)).sum();
        (all > 0).then(|| f64::from(self.owned.get(&backend).copied().unwrap_or(0)) / all as f64)
    }
}

/// One slot of a table read back from the kernel.
pub(super) fn read_slot(map: &MapData, place: u32) -> Result<Slot> {
    let values = map.info()?.max_entries();
    let mapped = Mapped::new(map.fd().as_fd(), values)?;
    let value = mapped.values().get(slot::value_index(place) as usize).context("the slot lies beyond the table")?;
    Ok(slot::from_value(*value, place))
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
