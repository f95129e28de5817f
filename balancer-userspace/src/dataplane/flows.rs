//! Flow tables and slot activity: for each service that needs them a map of each, made when slots open and taken away
//! when all are closed.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use balancer_common::layout::{Activity, FlowEntry, FlowKey};

use super::mapped::Mapped;
use super::pins::Pins;
use super::syscall;
use super::table::{empty_map, pin_over};

const BPF_F_NO_PREALLOC: u32 = 1;

/// The two maps of maps, and what stands in them, by number of the service.
pub(super) struct Tracks {
    flows_map: MapData,
    activity_map: MapData,
    flows: BTreeMap<u32, MapData>,
    activity: BTreeMap<u32, Mapped>,
}

fn pin(pins: &Pins, what: &str, number: u32) -> PathBuf {
    pins.tables().join(format!("{what}{number}"))
}

impl Tracks {
    pub(super) fn new(flows_map: MapData, activity_map: MapData) -> Self {
        Self { flows_map, activity_map, flows: BTreeMap::new(), activity: BTreeMap::new() }
    }

    /// Takes over what an earlier controller pinned for a service.
    pub(super) fn adopt(&mut self, pins: &Pins, number: u32) -> Result<()> {
        if let Ok(map) = MapData::from_pin(pin(pins, "flows", number))
            && syscall::look_up(self.flows_map.fd().as_fd(), number).ok() == Some(map.info()?.id())
        {
            self.flows.insert(number, map);
        }
        if let Ok(map) = MapData::from_pin(pin(pins, "activity", number))
            && syscall::look_up(self.activity_map.fd().as_fd(), number).ok() == Some(map.info()?.id())
        {
            let slots = map.info()?.max_entries();
            self.activity.insert(number, Mapped::new(map.fd(), slots as usize).context("mapping slot activity")?);
        }
        Ok(())
    }

    /// Sees to it that the service has a flow table of `entries`; one that is there already keeps its size.
    pub(super) fn provide_flows(&mut self, pins: &Pins, number: u32, entries: u32) -> Result<()> {
        if self.flows.contains_key(&number) {
            return Ok(());
        }
        let (key, value) = (size_of::<FlowKey>() as u32, size_of::<FlowEntry>() as u32);
        let kind = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
        let definition = aya_obj::Map::new_from_params(kind, key, value, entries, BPF_F_NO_PREALLOC);
        let map = MapData::create(definition, "FLOWS_OF", None)
            .with_context(|| format!("making a flow table of {entries} entries"))?;
        pin_over(&map, &pin(pins, "flows", number))?;
        publish(&self.flows_map, number, &map).context("publishing a flow table")?;
        self.flows.insert(number, map);
        Ok(())
    }

    /// Sees to it that there is a record for each of `slots` slots; with another number of slots it begins anew.
    pub(super) fn provide_activity(&mut self, pins: &Pins, number: u32, slots: u32) -> Result<()> {
        if self.activity.get(&number).is_some_and(|there| there.words().len() == slots as usize) {
            return Ok(());
        }
        let map = empty_map(slots).context("making the record of slot activity")?;
        pin_over(&map, &pin(pins, "activity", number))?;
        publish(&self.activity_map, number, &map).context("publishing the record of slot activity")?;
        self.activity.insert(number, Mapped::new(map.fd(), slots as usize).context("mapping slot activity")?);
        Ok(())
    }

    /// Notes that these slots change owners at `now`.
    pub(super) fn note_opened(&self, number: u32, slots: impl IntoIterator<Item = u32>, now: u32) {
        let Some(activity) = self.activity.get(&number) else { return };
        for slot in slots {
            activity.set(slot as usize, Activity::new(now, now).0);
        }
    }

    /// By slot; empty where nothing is recorded.
    pub(super) fn activity(&self, number: u32) -> Vec<Activity> {
        let Some(activity) = self.activity.get(&number) else { return Vec::new() };
        (0..activity.words().len()).filter_map(|slot| activity.get(slot).map(Activity)).collect()
    }

    pub(super) fn has_flows(&self, number: u32) -> bool {
        self.flows.contains_key(&number)
    }

    pub(super) fn flow(&self, number: u32, key: FlowKey) -> Option<FlowEntry> {
        syscall::look_up_value(self.flows.get(&number)?.fd().as_fd(), &key).ok().map(FlowEntry)
    }

    /// Every flow of a service.
    pub(super) fn flows(&self, number: u32) -> Result<Vec<(FlowKey, FlowEntry)>> {
        let Some(map) = self.flows.get(&number) else { return Ok(Vec::new()) };
        let all = syscall::read_hash(map.fd().as_fd(), map.info()?.max_entries())?;
        Ok(all.into_iter().map(|(key, word)| (key, FlowEntry(word))).collect())
    }

    pub(super) fn forget(&self, number: u32, keys: &[FlowKey]) -> Result<()> {
        let Some(map) = self.flows.get(&number) else { return Ok(()) };
        syscall::delete_batch(map.fd().as_fd(), keys).context("removing flows")
    }

    /// Takes both maps of a service away.
    pub(super) fn remove(&mut self, pins: &Pins, number: u32, flows_too: bool) {
        if self.activity.remove(&number).is_some() {
            syscall::delete(self.activity_map.fd().as_fd(), number).ok();
            let _ = std::fs::remove_file(pin(pins, "activity", number));
        }
        if flows_too && self.flows.remove(&number).is_some() {
            syscall::delete(self.flows_map.fd().as_fd(), number).ok();
            let _ = std::fs::remove_file(pin(pins, "flows", number));
        }
    }
}

fn publish(outer: &MapData, number: u32, inner: &MapData) -> Result<()> {
    use std::os::fd::AsRawFd;
    syscall::update(outer.fd().as_fd(), &[number], &[inner.fd().as_fd().as_raw_fd() as u32])?;
    Ok(())
}
