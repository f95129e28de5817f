//! The content of the maps as plain values, and the difference between two such contents.

use std::collections::BTreeMap;

use balancer_common::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey};
use balancer_common::slot::BackendIndex;

use super::table::{NewTable, TableCounts};

/// What the maps hold, but for the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub services: BTreeMap<ServiceKey, ServiceEntry>,
    pub replies: BTreeMap<ServiceKey, ReplyEntry>,
    pub backends: BTreeMap<BackendIndex, BackendEntry>,
}

/// Tables by their place in the map of tables.
pub type TableState = BTreeMap<u32, TableCounts>;

/// What to write, in any order; [`super::DataPlane::apply`] knows the right one.
#[derive(Default)]
pub struct Changes {
    pub set_services: Vec<(ServiceKey, ServiceEntry)>,
    pub remove_services: Vec<ServiceKey>,
    pub set_replies: Vec<(ServiceKey, ReplyEntry)>,
    pub remove_replies: Vec<ServiceKey>,
    pub set_backends: Vec<(BackendIndex, BackendEntry)>,
    pub clear_backends: Vec<BackendIndex>,
    pub publish: Vec<(u32, NewTable)>,
    pub remove_tables: Vec<u32>,
}

impl Image {
    /// What leads from `self` to `wanted`, without the tables.
    pub fn changes_to(&self, wanted: &Self) -> Changes {
        Changes {
            set_services: added(&self.services, &wanted.services),
            remove_services: gone(&self.services, &wanted.services),
            set_replies: added(&self.replies, &wanted.replies),
            remove_replies: gone(&self.replies, &wanted.replies),
            set_backends: added(&self.backends, &wanted.backends),
            clear_backends: gone(&self.backends, &wanted.backends),
            ..Changes::default()
        }
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
        assert!(now.changes_to(&now).set_backends.is_empty());
    }
}
