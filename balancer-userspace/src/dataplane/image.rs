//! The content of the maps as plain values, and the difference between two such contents.

use std::collections::BTreeMap;

use balancer_common::layout::{BackendEntry, Former, RateLimits, ServerIdKey, ServiceEntry};
use balancer_common::slot::{BackendIndex, Slot};

pub use super::index::IndexContent;
use super::table::NewTable;
use crate::plan::LpmPrefix;

/// What the maps hold, but for the tables and what is about flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub index: IndexContent,
    pub prefixes: BTreeMap<LpmPrefix, ServiceEntry>,
    pub backends: BTreeMap<BackendIndex, BackendEntry>,
    pub server_ids: BTreeMap<ServerIdKey, BackendIndex>,
}

/// Slots by the table's place in the map of tables.
pub type TableState = BTreeMap<u32, Vec<Slot>>;

/// What to write, in any order; [`super::DataPlane::apply`] knows the right one.
#[derive(Default)]
pub struct Changes {
    /// Absent where the index stays as it is.
    pub index: Option<IndexContent>,
    pub set_prefixes: Vec<(LpmPrefix, ServiceEntry)>,
    pub remove_prefixes: Vec<LpmPrefix>,
    pub set_backends: Vec<(BackendIndex, BackendEntry)>,
    pub clear_backends: Vec<BackendIndex>,
    pub set_server_ids: Vec<(ServerIdKey, BackendIndex)>,
    pub remove_server_ids: Vec<ServerIdKey>,
    /// By number of the service, as all that follows.
    pub rates: Vec<(u16, RateLimits)>,
    pub former: Vec<(u16, Former)>,
    pub set_acl: Vec<(LpmPrefix, bool)>,
    pub remove_acl: Vec<LpmPrefix>,
    /// Flow tables of so many entries, where there is none yet.
    pub flow_tables: Vec<(u32, u32)>,
    /// Open slots: how many the table has, which change owners, and when.
    pub opened: Vec<Opened>,
    pub publish: Vec<(u32, NewTable)>,
    pub remove_tables: Vec<u32>,
    /// Services whose flow table and activity go.
    pub remove_tracks: Vec<u32>,
}

/// Slots of one service that open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub number: u32,
    pub table_size: u32,
    pub slots: Vec<u32>,
    /// In the units of [`balancer_common::clock`].
    pub now: u32,
}

impl Image {
    /// What leads from `self` to `wanted`.
    pub fn changes_to(&self, wanted: &Self) -> Changes {
        Changes {
            index: (self.index != wanted.index).then(|| wanted.index.clone()),
            set_prefixes: added(&self.prefixes, &wanted.prefixes),
            remove_prefixes: gone(&self.prefixes, &wanted.prefixes),
            set_backends: added(&self.backends, &wanted.backends),
            clear_backends: gone(&self.backends, &wanted.backends),
            set_server_ids: added(&self.server_ids, &wanted.server_ids),
            remove_server_ids: gone(&self.server_ids, &wanted.server_ids),
            ..Changes::default()
        }
    }
}

impl Image {
    /// Holds the entries of `changes` as well; lookups stay as they are.
    pub fn follow(&mut self, changes: &Changes) {
        for index in &changes.clear_backends {
            self.backends.remove(index);
        }
        for key in &changes.remove_server_ids {
            self.server_ids.remove(key);
        }
        self.backends.extend(changes.set_backends.iter().copied());
        self.server_ids.extend(changes.set_server_ids.iter().copied());
    }
}

impl Changes {
    /// Those of backends and server ids.
    pub fn entries(&self) -> Self {
        Self {
            set_backends: self.set_backends.clone(),
            clear_backends: self.clear_backends.clone(),
            set_server_ids: self.set_server_ids.clone(),
            remove_server_ids: self.remove_server_ids.clone(),
            ..Self::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_none()
            && self.set_prefixes.is_empty()
            && self.remove_prefixes.is_empty()
            && self.set_backends.is_empty()
            && self.clear_backends.is_empty()
            && self.set_server_ids.is_empty()
            && self.remove_server_ids.is_empty()
            && self.rates.is_empty()
            && self.former.is_empty()
            && self.set_acl.is_empty()
            && self.remove_acl.is_empty()
            && self.publish.is_empty()
            && self.remove_tables.is_empty()
            && self.remove_tracks.is_empty()
    }
}

fn added<K: Ord + Copy, V: PartialEq + Copy>(now: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Vec<(K, V)> {
    wanted.iter().filter(|(key, value)| now.get(key) != Some(value)).map(|(key, value)| (*key, *value)).collect()
}

fn gone<K: Ord + Copy, V>(now: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Vec<K> {
    now.keys().filter(|key| !wanted.contains_key(key)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let entry = |ifindex| BackendEntry { ifindex, ..BackendEntry::default() };
        let now = Image { backends: [(1, entry(1)), (2, entry(2)), (3, entry(3))].into(), ..Image::default() };
        let wanted = Image { backends: [(2, entry(2)), (3, entry(9)), (4, entry(4))].into(), ..Image::default() };
        let changes = now.changes_to(&wanted);
        assert_eq!(changes.set_backends, [(3, entry(9)), (4, entry(4))]);
        assert_eq!(changes.clear_backends, [1]);
        assert!(changes.index.is_none());
        assert!(now.changes_to(&now).is_empty());
        let mut followed = now.clone();
        followed.follow(&changes.entries());
        assert_eq!(followed, wanted);
    }
}
