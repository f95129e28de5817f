//! Maglev tables in the kernel: made, filled, published whole, and read back. The slots of a published table change one
//! by one only where they close.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use balancer_common::slot::{self, BackendIndex, Slot};

use super::published::Published;

const BPF_F_INNER_MAP: u32 = 1 << 12;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// A table that no packet has seen yet.
pub struct NewTable {
    pub(super) table: Published,
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
    /// Of the slots each backend owns, how many are of which group.
    pub groups: BTreeMap<BackendIndex, [u32; slot::GROUPS]>,
    /// Open slots.
    pub open: u32,
    /// Slots that anybody owns.
    owned_slots: u32,
}

impl NewTable {
    pub fn new(slots: &[Slot]) -> Result<Self> {
        Ok(Self { table: Published::new(slots)?, counts: TableCounts::of(slots) })
    }
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
        for slot in slots {
            owned[usize::from(slot.owner())] += 1;
            if slot.is_open() {
                open += 1;
                settled[usize::from(slot.settled())] += 1;
            }
        }
        let counted = |counts: &[u32], first: usize| -> BTreeMap<BackendIndex, u32> {
            let present = counts.iter().enumerate().skip(first).filter(|(_, count)| **count > 0);
            present.map(|(index, count)| (index as BackendIndex, *count)).collect()
        };
        let owned_by = counted(&owned, 1);
        // From here on a place in the list of groups, from 1.
        owned_by.keys().zip(1..).for_each(|(index, place)| owned[usize::from(*index)] = place);
        let mut groups = vec![[0u32; slot::GROUPS]; owned_by.len()];
        for (place, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.owner() != slot::NO_BACKEND) {
            groups[owned[usize::from(slot.owner())] as usize - 1][slot::group(place as u32) as usize] += 1;
        }
        Self {
            owned_slots: owned_by.values().sum(),
            slots: slots.len() as u32,
            groups: owned_by.keys().copied().zip(groups).collect(),
            owned: owned_by,
            settled: counted(&settled, 0),
            open,
        }
    }

    /// The fraction of slots a backend owns; `None` where nobody owns any.
    pub fn share(&self, backend: BackendIndex) -> Option<f64> {
        let all = self.owned_slots;
        (all > 0).then(|| f64::from(self.owned.get(&backend).copied().unwrap_or(0)) / all as f64)
    }
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
