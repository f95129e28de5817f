//! What the kernel holds against what was written to it, and the way back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use balancer_common::layout::{BackendEntry, PortRange, RateLimits, ServerIdKey, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};

use super::attach::Attached;
use super::image::{Changes, Image};
use super::index::address_lines;
use super::load::{CAPTURE, DataPlane, HEAD, IDENTITY, INDEX, INSTANCE};
use super::syscall;
use crate::plan::LpmPrefix;

/// One thing that is not as it was written: what was written, and what is there.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// Another table, or none, stands at this place of the map of tables.
    Table {
        place: u32,
        written: u32,
        found: Option<u32>,
    },
    /// Slots of the table at this place.
    Slots {
        place: u32,
    },
    Entry {
        key: ServiceKey,
        written: Option<ServiceEntry>,
        found: Option<ServiceEntry>,
    },
    Ranges {
        key: ServiceKey,
        written: Vec<PortRange>,
        found: Vec<PortRange>,
    },
    Prefix {
        prefix: LpmPrefix,
        written: Option<ServiceEntry>,
        found: Option<ServiceEntry>,
    },
    Backend {
        index: BackendIndex,
        written: Option<BackendEntry>,
        found: Option<BackendEntry>,
    },
    ServerId {
        key: ServerIdKey,
        written: Option<BackendIndex>,
        found: Option<BackendIndex>,
    },
    Rates {
        number: u16,
        written: RateLimits,
        found: RateLimits,
    },
    Access {
        prefix: LpmPrefix,
        written: Option<bool>,
        found: Option<bool>,
    },
    Setting {
        name: &'static str,
        written: u64,
        found: u64,
    },
}

/// Settings that nobody but the controller changes.
const COMPARED: [(&str, usize); 6] = [
    ("gates", HEAD),
    ("index", INDEX),
    ("identity", IDENTITY),
    ("identity", IDENTITY + 1),
    ("capture", CAPTURE),
    ("instance", INSTANCE),
];

/// By place of the table: slots that differ, as written, as found.
pub type SlotDifferences = BTreeMap<u32, Vec<(u32, Slot, Slot)>>;

/// What the maps should hold beside tables.
pub struct Expected<'a> {
    pub image: &'a Image,
    /// By number of the service.
    pub rates: BTreeMap<u16, RateLimits>,
    /// Absent where the lists are too long to be read each time.
    pub access: Option<BTreeMap<LpmPrefix, bool>>,
    /// Whether the program is to show packets.
    pub capturing: bool,
}

/// The program on an interface, as its link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Ours,
    /// Another program, by the kernel's number, is in the place of ours.
    Replaced {
        found: u32,
    },
    /// The link is not on the interface any more, or gone.
    Detached,
}

impl DataPlane {
    /// Everything that is not as it was written, tables first.
    pub fn differences(&self, expected: &Expected<'_>) -> Result<Vec<Difference>> {
        let mut found = self.table_differences();
        let image = self.read_image()?;
        let wanted = expected.image;
        let pairs = |key: &ServiceKey, written: Option<ServiceEntry>, found: Option<ServiceEntry>| Difference::Entry {
            key: *key,
            written,
            found,
        };
        differing(&wanted.index.entries, &image.index.entries, |key, w, f| found.push(pairs(key, w, f)));
        // A line that is there but can't be found from its key.
        for (key, entry) in wanted.index.entries.iter().filter(|(key, e)| image.index.entries.get(*key) == Some(e)) {
            let there = self.look_up(key);
            if there != Some(*entry) {
                found.push(pairs(key, Some(*entry), there));
            }
        }
        let addresses: BTreeSet<&ServiceKey> = wanted.index.ranges.keys().chain(image.index.ranges.keys()).collect();
        for key in addresses {
            let of = |image: &Image| image.index.ranges.get(key).cloned().unwrap_or_default();
            if of(wanted) != of(&image) {
                found.push(Difference::Ranges { key: *key, written: of(wanted), found: of(&image) });
            }
        }
        // The same of addresses: their ranges may stand where they should, and not be found.
        for (key, entry) in address_lines(&wanted.index) {
            let of = |image: &Image| image.index.ranges.get(key).cloned().unwrap_or_default();
            let there = self.look_up(key);
            if there != Some(entry) && of(wanted) == of(&image) {
                found.push(pairs(key, Some(entry), there));
            }
        }
        differing(&wanted.prefixes, &image.prefixes, |prefix, written, there| {
            found.push(Difference::Prefix { prefix: *prefix, written, found: there });
        });
        differing(&wanted.backends, &image.backends, |index, written, there| {
            found.push(Difference::Backend { index: *index, written, found: there });
        });
        differing(&wanted.server_ids, &image.server_ids, |key, written, there| {
            found.push(Difference::ServerId { key: *key, written, found: there });
        });
        for (number, written) in &expected.rates {
            let there = self.rates.get(&u32::from(*number), 0).context("reading rates back")?;
            if there != *written {
                found.push(Difference::Rates { number: *number, written: *written, found: there });
            }
        }
        if let Some(access) = &expected.access {
            differing(access, &self.access()?, |prefix, written, there| {
                found.push(Difference::Access { prefix: *prefix, written, found: there });
            });
        }
        found.extend(self.setting_differences(expected.capturing));
        Ok(found)
    }

    fn table_differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        for (place, table) in &self.tables {
            let there = self.published(*place);
            if there != Some(table.id) {
                found.push(Difference::Table { place: *place, written: table.id, found: there });
            }
            if !table.is_as_written() {
                found.push(Difference::Slots { place: *place });
            }
        }
        found
    }

    fn setting_differences(&self, capturing: bool) -> Vec<Difference> {
        let pair = |(name, place): (&'static str, usize)| {
            let written = if place == CAPTURE { u64::from(capturing) } else { self.written[place] };
            let found = self.settings.get(place).unwrap_or(0);
            (written != found).then_some(Difference::Setting { name, written, found })
        };
        COMPARED.into_iter().filter_map(pair).collect()
    }

    fn access(&self) -> Result<BTreeMap<LpmPrefix, bool>> {
        let pair = |item: Result<(aya::maps::lpm_trie::Key<[u32; 5]>, u32), aya::maps::MapError>| {
            item.map(|(key, allows)| ((key.prefix_len(), key.data()), allows != 0))
        };
        Ok(self.acl.iter().map(pair).collect::<Result<_, _>>()?)
    }

    /// Slots of the table at `place` that differ: the slot, as written, as found. `owners` says what is written in a table
    /// without open slots.
    pub fn slot_differences(&self, place: u32, owners: impl FnOnce() -> Vec<Slot>) -> Vec<(u32, Slot, Slot)> {
        let Some(table) = self.tables.get(&place) else { return Vec::new() };
        let written = table.as_written(owners);
        let pairs = written.into_iter().zip(table.read()).enumerate();
        pairs.filter(|(_, (written, found))| written != found).map(|(p, (w, f))| (p as u32, w, f)).collect()
    }

    /// Puts back what was written, for all of `differences`; `slots` are those of the tables among them.
    pub fn restore(
        &mut self,
        differences: &[Difference],
        expected: &Expected<'_>,
        slots: &SlotDifferences,
    ) -> Result<()> {
        // What the program reads first comes last.
        for (place, slots) in slots {
            let table = self.tables.get(place).context("a table that is not ours")?;
            slots.iter().try_for_each(|(slot, written, _)| table.put(*slot, *written))?;
        }
        let mut changes = Changes::default();
        let mut index = false;
        for difference in differences {
            match difference {
                Difference::Slots { .. } => {}
                Difference::Table { place, .. } => self.show_again(*place)?,
                Difference::Entry { .. } | Difference::Ranges { .. } => index = true,
                Difference::Prefix { prefix, written: Some(entry), .. } => changes.set_prefixes.push((*prefix, *entry)),
                Difference::Prefix { prefix, .. } => changes.remove_prefixes.push(*prefix),
                Difference::Backend { index, written: Some(entry), .. } => changes.set_backends.push((*index, *entry)),
                Difference::Backend { index, .. } => changes.clear_backends.push(*index),
                Difference::ServerId { key, written: Some(to), .. } => changes.set_server_ids.push((*key, *to)),
                Difference::ServerId { key, .. } => changes.remove_server_ids.push(*key),
                Difference::Rates { number, written, .. } => changes.rates.push((*number, *written)),
                Difference::Access { prefix, written: Some(allows), .. } => changes.set_acl.push((*prefix, *allows)),
                Difference::Access { prefix, .. } => changes.remove_acl.push(*prefix),
                Difference::Setting { name, .. } => index |= *name == "index",
            }
        }
        for place in [HEAD, IDENTITY, IDENTITY + 1, INSTANCE] {
            self.settings.set(place, self.written[place]);
        }
        self.settings.set(CAPTURE, u64::from(expected.capturing));
        // Both halves may have been touched: it is written anew, and the word that says which half is in force with it.
        changes.index = index.then(|| expected.image.index.clone());
        self.apply(changes)
    }

    /// Publishes a table that is still ours once more.
    fn show_again(&self, place: u32) -> Result<()> {
        let table = self.tables.get(&place).context("a table that is not ours")?;
        syscall::update(self.table_map.fd().as_fd(), &[place], &[table.descriptor()])
            .context("publishing a table again")
    }

    /// Whether the program on the interface is ours, as its pinned link says.
    pub fn link_state(&self, interface: &str, mode: Attached) -> LinkState {
        let Ok((program, ifindex)) = syscall::xdp_link(&self.pins.link(interface, mode.as_str())) else {
            return LinkState::Detached;
        };
        let there = nix::net::if_::if_nametoindex(interface).unwrap_or(0);
        if ifindex == 0 || ifindex != there {
            LinkState::Detached
        } else if program != self.program_id {
            LinkState::Replaced { found: program }
        } else {
            LinkState::Ours
        }
    }

    /// The kernel's number of our program.
    pub fn program_id(&self) -> u32 {
        self.program_id
    }
}

/// Keys at which both sides differ, with what either has there.
fn differing<K: Ord, V: PartialEq + Copy>(
    written: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    mut tell: impl FnMut(&K, Option<V>, Option<V>),
) {
    for (key, value) in written {
        let there = found.get(key).copied();
        if there != Some(*value) {
            tell(key, Some(*value), there);
        }
    }
    found.iter().filter(|(key, _)| !written.contains_key(key)).for_each(|(key, value)| tell(key, None, Some(*value)));
}
