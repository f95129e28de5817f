//! Reading the maps back and writing to them.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya::maps::lpm_trie::Key;
use balancer_common::layout::{
    Activity, BackendCounters, BackendEntry, FlowEntry, FlowKey, Former, Kind, PortRange, ServerIdKey, ServiceCounters,
    ServiceEntry, ServiceKey, gates,
};
use balancer_common::slot::{BackendIndex, Slot};

use super::image::{Changes, Image, TableState};
use super::load::{CLOCK, DataPlane, HEAD, IDENTITY, INDEX};
use super::published::{Published, Stamp};
use super::syscall;
use super::table::{NewTable, pin_over};
use crate::plan::LpmPrefix;

impl DataPlane {
    /// Reads back everything the maps hold, and takes over the tables that are there.
    pub fn read_back(&mut self) -> Result<(Image, TableState)> {
        let image = self.read_image()?;
        let mut tables = TableState::new();
        let services: Vec<ServiceEntry> = image.services().collect();
        for entry in services {
            self.tracks.adopt(&self.pins, u32::from(entry.number))?;
            let former = self.former(entry.number)?;
            for (place, slots) in [(entry.table, entry.table_size), (former.table, former.table_size)] {
                let Ok(map) = MapData::from_pin(self.pins.table(place)) else { continue };
                if slots > 0 && self.published(place) == Some(map.info()?.id()) {
                    let table = Published::adopt(map, slots)?;
                    tables.insert(place, table.read());
                    self.tables.insert(place, table);
                }
            }
        }
        Ok((image, tables))
    }

    /// Reads back what is not a table.
    pub fn read_image(&self) -> Result<Image> {
        let mut image = Image { index: self.index.read(self.index_word()), ..Image::default() };
        for item in self.prefixes.iter() {
            let (key, entry) = item.context("reading the prefixes back")?;
            image.prefixes.insert((key.prefix_len(), key.data()), entry);
        }
        for item in self.server_ids.iter() {
            let (key, index) = item.context("reading the server ids back")?;
            image.server_ids.insert(key, index as BackendIndex);
        }
        let entries = self.limits.backends + 1;
        let words = size_of::<BackendEntry>() / 8;
        let mut values = vec![0u64; entries as usize * words];
        syscall::read_array(self.backends_fd.as_fd(), entries, &mut values).context("reading the backends back")?;
        for (index, value) in values.chunks_exact(words).enumerate().skip(1) {
            if value.iter().any(|word| *word != 0) {
                let bytes: &[u64; 8] = value.try_into()?;
                // SAFETY: same size, and any bytes are a valid entry.
                let entry = unsafe { std::mem::transmute::<[u64; 8], BackendEntry>(*bytes) };
                image.backends.insert(index as BackendIndex, entry);
            }
        }
        Ok(image)
    }

    /// The kernel's number of the table that the program sees at `place`.
    pub(super) fn published(&self, place: u32) -> Option<u32> {
        syscall::look_up(self.table_map.fd().as_fd(), place).ok()
    }

    fn table(&self, place: u32) -> Result<&Published> {
        self.tables.get(&place).with_context(|| format!("there is no table at {place}"))
    }

    /// Reads one table back from the kernel's memory, after checking that it is the one the program sees.
    pub fn read_table(&self, place: u32, slots: u32) -> Result<Vec<Slot>> {
        let table = self.table(place)?;
        let seen = self.published(place).context("the map of tables has nothing there")?;
        anyhow::ensure!(table.id == seen, "the program sees table {seen} where {} was published", table.id);
        anyhow::ensure!(table.count() == slots, "the table has {} slots instead of {slots}", table.count());
        Ok(table.read())
    }

    /// Which table of ours stands at a place.
    pub fn stamp(&self, place: u32) -> Option<Stamp> {
        self.tables.get(&place).map(Published::stamp)
    }

    /// What the kernel holds of a table of ours, whether or not the program sees it.
    pub fn slots_now(&self, place: u32) -> Option<Vec<Slot>> {
        Some(self.tables.get(&place)?.read())
    }

    /// A table as it was last written from here, whatever the kernel holds by now. `owners` says what it holds where no slot
    /// is open.
    pub fn written_table(&self, place: u32, owners: impl FnOnce() -> Vec<Slot>) -> Result<Vec<Slot>> {
        Ok(self.table(place)?.as_written(owners))
    }

    pub(super) fn look_up_slot(&self, place: u32, slot: u32) -> Option<Slot> {
        self.tables.get(&place)?.slot(slot)
    }

    /// Writes single slots of a table in force.
    pub fn close_slots(&mut self, place: u32, slots: &[(u32, Slot)]) -> Result<()> {
        self.tables.get_mut(&place).with_context(|| format!("there is no table at {place}"))?.write(slots)
    }

    /// Writes `changes`, in an order in which every packet finds either the state before or the one after, whole:
    /// what is pointed to before what points to it, and the reverse for what goes.
    pub fn apply(&mut self, mut changes: Changes) -> Result<()> {
        for (index, entry) in &changes.set_backends {
            self.backends.set(u32::from(*index), entry, 0).with_context(|| full("backend", "limits.backends"))?;
        }
        for (key, index) in &changes.set_server_ids {
            let index = u32::from(*index);
            self.server_ids.insert(key, index, 0).with_context(|| full("server id", "limits.backends"))?;
        }
        for (number, limits) in &changes.rates {
            self.rates.set(u32::from(*number), limits, 0).context("writing rates")?;
            self.buckets.set(u32::from(*number), 0u64, 0).context("filling a token bucket")?;
        }
        for ((length, key), allows) in &changes.set_acl {
            let key = Key::new(*length, *key);
            self.acl.insert(&key, u32::from(*allows), 0).with_context(|| full("prefix", "limits.acl_prefixes"))?;
        }
        for (number, former) in &changes.former {
            self.former.set(u32::from(*number), former, 0).context("writing a former mapping")?;
        }
        self.provide_tracks(&changes)?;
        self.publish(std::mem::take(&mut changes.publish))?;
        self.write_lookups(&changes)?;
        self.take_away(&changes)
    }

    /// Flow tables and activity come before the slots that use them.
    fn provide_tracks(&mut self, changes: &Changes) -> Result<()> {
        for (number, entries) in &changes.flow_tables {
            self.tracks.provide_flows(&self.pins, *number, *entries)?;
        }
        for opened in &changes.opened {
            self.tracks.provide_activity(&self.pins, opened.number, opened.table_size)?;
            self.tracks.note_opened(opened.number, opened.slots.iter().copied(), opened.now);
        }
        Ok(())
    }

    /// Swaps whole tables in, all with one system call and one grace period.
    fn publish(&mut self, tables: Vec<(u32, NewTable)>) -> Result<()> {
        for (place, new) in &tables {
            pin_over(&new.table.map, &self.pins.table(*place))?;
        }
        let places: Vec<u32> = tables.iter().map(|(place, _)| *place).collect();
        let descriptors: Vec<u32> = tables.iter().map(|(_, new)| new.table.descriptor()).collect();
        syscall::update(self.table_map.fd().as_fd(), &places, &descriptors)
            .with_context(|| full("table", "limits.services"))?;
        self.tables.extend(tables.into_iter().map(|(place, new)| (place, new.table)));
        Ok(())
    }

    fn write_lookups(&mut self, changes: &Changes) -> Result<()> {
        // A gate opens before what is behind it comes, and closes after that went.
        if !changes.set_prefixes.is_empty() {
            self.set_gate(gates::PREFIXES, true);
        }
        for ((length, key), entry) in &changes.set_prefixes {
            let key = Key::new(*length, *key);
            self.prefixes.insert(&key, entry, 0).with_context(|| full("prefix", "limits.services"))?;
        }
        if let Some(content) = &changes.index {
            let has = |kind: Kind| content.entries.keys().any(|key| key.kind() == kind as u8);
            let wanted = [(gates::NAT, has(Kind::Reply)), (gates::RANGES, has(Kind::Range))];
            let next = self.index.fill(self.index_word(), content)?;
            for (gate, _) in wanted.iter().filter(|(_, open)| *open) {
                self.set_gate(*gate, true);
            }
            self.set_word(INDEX, next);
            // The other half must not be written while a packet may be reading it.
            self.grace_period();
            for (gate, _) in wanted.iter().filter(|(_, open)| !open) {
                self.set_gate(*gate, false);
            }
        }
        for (length, key) in &changes.remove_prefixes {
            self.prefixes.remove(&Key::new(*length, *key)).or_else(absent).context("removing a prefix")?;
        }
        if !changes.remove_prefixes.is_empty() {
            self.grace_period();
            if self.prefixes.keys().next().is_none() {
                self.set_gate(gates::PREFIXES, false);
            }
        }
        Ok(())
    }

    fn take_away(&mut self, changes: &Changes) -> Result<()> {
        for key in &changes.remove_server_ids {
            self.server_ids.remove(key).or_else(absent).context("removing a server id")?;
        }
        for (length, key) in &changes.remove_acl {
            self.acl.remove(&Key::new(*length, *key)).or_else(absent).context("removing a prefix")?;
        }
        for place in &changes.remove_tables {
            syscall::delete(self.table_map.fd().as_fd(), *place).ok();
            self.tables.remove(place);
            let _ = std::fs::remove_file(self.pins.table(*place));
        }
        for number in &changes.remove_tracks {
            self.tracks.remove(&self.pins, *number, true);
        }
        for index in &changes.clear_backends {
            self.backends.set(u32::from(*index), BackendEntry::default(), 0).context("clearing a backend")?;
        }
        Ok(())
    }

    /// Waits until no packet is in the program that was there before. The kernel does so after each change of a map of
    /// maps; the last place is never used.
    fn grace_period(&self) {
        syscall::delete(self.table_map.fd().as_fd(), self.limits.services * 2).ok();
    }

    fn set_gate(&mut self, gate: u32, open: bool) {
        // The gates are the high half of the first word, behind the version.
        let (word, bit) = (self.written[HEAD], u64::from(gate) << 32);
        self.set_word(HEAD, if open { word | bit } else { word & !bit });
    }

    /// Puts the counters of these backends to 0, before an index is given to another one.
    pub fn reset_counters(&mut self, indices: &[BackendIndex]) -> Result<()> {
        let zero = vec![BackendCounters::default(); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        for index in indices {
            let zero = aya::maps::PerCpuValues::try_from(zero.clone())?;
            self.counters.set(u32::from(*index), zero, 0).context("clearing a backend's counters")?;
        }
        Ok(())
    }

    /// Puts the counters of a service to 0, before its number is given to another one.
    pub fn reset_service_counters(&mut self, numbers: &[u16]) -> Result<()> {
        let zero = vec![ServiceCounters::default(); aya::util::nr_cpus().map_err(|(_, error)| error)?];
        for number in numbers {
            let zero = aya::maps::PerCpuValues::try_from(zero.clone())?;
            self.service_counters.set(u32::from(*number), zero, 0).context("clearing a service's counters")?;
        }
        Ok(())
    }

    /// Prefixes in the lists of all services.
    pub fn acl_prefixes(&self) -> Result<Vec<LpmPrefix>> {
        let prefix = |key: Result<Key<[u32; 5]>, _>| key.map(|key| (key.prefix_len(), key.data()));
        Ok(self.acl.keys().map(prefix).collect::<Result<_, aya::maps::MapError>>()?)
    }

    pub fn former(&self, number: u16) -> Result<Former> {
        Ok(self.former.get(&u32::from(number), 0)?)
    }

    /// When each slot of a service was last at odds; empty where nothing is recorded.
    pub fn activity(&self, number: u16) -> Vec<Activity> {
        self.tracks.activity(u32::from(number))
    }

    /// The flow table of a service.
    pub fn flows(&self, number: u16) -> Result<Vec<(FlowKey, FlowEntry)>> {
        self.tracks.flows(u32::from(number)).context("reading a flow table")
    }

    pub fn has_flow_table(&self, number: u16) -> bool {
        self.tracks.has_flows(u32::from(number))
    }

    pub fn forget_flows(&self, number: u16, keys: &[FlowKey]) -> Result<()> {
        self.tracks.forget(u32::from(number), keys)
    }

    /// Takes a service's record of slot activity away, and its flow table where `flows_too`.
    pub fn remove_tracks(&mut self, number: u16, flows_too: bool) {
        self.tracks.remove(&self.pins, u32::from(number), flows_too);
    }

    pub(super) fn look_up_flow(&self, number: u16, key: FlowKey) -> Option<FlowEntry> {
        self.tracks.flow(u32::from(number), key)
    }

    pub(super) fn look_up(&self, key: &ServiceKey) -> Option<ServiceEntry> {
        self.index.look_up(self.index_word(), key)
    }

    pub(super) fn look_up_range(&self, place: u32) -> Option<PortRange> {
        self.index.look_up_range(self.index_word(), place)
    }

    pub(super) fn look_up_backend(&self, index: BackendIndex) -> Option<BackendEntry> {
        self.backends.get(&u32::from(index), 0).ok()
    }

    pub(super) fn look_up_server_id(&self, key: &ServerIdKey) -> Option<BackendIndex> {
        self.server_ids.get(key, 0).ok().map(|index| index as BackendIndex)
    }

    pub fn identity_keys(&self) -> [u64; 2] {
        [IDENTITY, IDENTITY + 1].map(|place| self.settings.get(place).unwrap_or(0))
    }

    /// The present, in the units of [`balancer_common::clock`].
    pub fn clock(&self) -> u32 {
        self.settings.get(CLOCK).unwrap_or(0) as u32
    }

    /// Raises the clock. Between two calls must lie [`balancer_common::clock::UNIT_MS`] at least.
    pub fn tick(&self) {
        self.settings.set(CLOCK, u64::from(self.clock().wrapping_add(1)));
    }

    pub(super) fn gates(&self) -> u32 {
        (self.settings.get(0).unwrap_or(0) >> 32) as u32
    }
}

impl Image {
    /// Entries of services, not of addresses or replies.
    pub fn services(&self) -> impl Iterator<Item = ServiceEntry> {
        let of_index = self.index.entries.values().filter(|entry| entry.table_size > 0);
        let on_prefixes = self.prefixes.values().filter(|entry| entry.table_size > 0);
        of_index.chain(on_prefixes).copied()
    }
}

fn full(what: &str, setting: &str) -> String {
    format!("writing a {what} to the kernel; if the map is full, raise `{setting}`")
}

fn absent(error: aya::maps::MapError) -> Result<(), aya::maps::MapError> {
    match error {
        aya::maps::MapError::KeyNotFound => Ok(()),
        aya::maps::MapError::SyscallError(ref call) if call.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => Err(other),
    }
}
