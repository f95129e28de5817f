//! Changes behind the balancer's back, with bpftool and raw system calls.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use balancer_common::layout::{IndexEntry, Settings};
use balancer_common::slot::{self, Slot};

use crate::netns::{Namespace, run};
use crate::programs;

/// What one controller has pinned.
pub struct Pinned(PathBuf);

impl Pinned {
    pub fn of(pin_dir: &Path) -> Self {
        Self(pin_dir.to_owned())
    }

    fn table(&self, place: u32) -> Result<Array<MapData, u64>> {
        let map = MapData::from_pin(self.0.join("tables").join(place.to_string()))?;
        Ok(Map::Array(map).try_into()?)
    }

    /// Slot `number` of the table at `place`.
    pub fn slot(&self, place: u32, number: u32) -> Result<Slot> {
        Ok(slot::from_value(self.table(place)?.get(&slot::value_index(number), 0)?, number))
    }

    /// Overwrites slots by system call, as they pair up in values.
    pub fn set_slots(&self, place: u32, slots: impl IntoIterator<Item = (u32, Slot)>) -> Result<()> {
        let mut table = self.table(place)?;
        for (number, slot) in slots {
            let before = table.get(&slot::value_index(number), 0)?;
            let shift = number % slot::SLOTS_PER_VALUE * 32;
            let value = before & !(0xffff_ffff << shift) | u64::from(slot.0) << shift;
            table.set(slot::value_index(number), value, 0)?;
        }
        Ok(())
    }

    /// Changes the first line of the index for which `wanted` holds.
    pub fn change_line(&self, wanted: impl Fn(&IndexEntry) -> bool, change: impl Fn(&mut IndexEntry)) -> Result<()> {
        let map = MapData::from_pin(self.0.join("maps/INDEX"))?;
        let mut index: Array<MapData, IndexEntry> = Map::Array(map).try_into()?;
        let lines = (0..index.len()).filter_map(|place| Some((place, index.get(&place, 0).ok()?)));
        let found: Vec<(u32, IndexEntry)> = lines.filter(|(_, line)| wanted(line)).collect();
        ensure!(!found.is_empty(), "no such line");
        for (place, mut line) in found {
            change(&mut line);
            index.set(place, line, 0)?;
        }
        Ok(())
    }

    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let map = MapData::from_pin(self.0.join("maps/SETTINGS"))?;
        let mut map: Array<MapData, Settings> = Map::Array(map).try_into()?;
        let mut settings = map.get(&0, 0)?;
        change(&mut settings);
        Ok(map.set(0, settings, 0)?)
    }

    /// `bpftool map update` of a value of so many bytes, all alike.
    pub fn overwrite(&self, map: &str, key: u32, bytes: usize, byte: u8) -> Result<()> {
        let path = self.0.join("maps").join(map);
        let mut command = Command::new("bpftool");
        command.args(["map", "update", "pinned"]).arg(path).args(["key", "hex"]);
        command.args(key.to_ne_bytes().map(|byte| format!("{byte:02x}")));
        command.args(["value", "hex"]).args(vec![format!("{byte:02x}"); bytes]);
        run(&mut command).map(drop)
    }

    /// `bpftool map delete` of an entry with a number for its key.
    pub fn delete(&self, map: &str, key: u32) -> Result<()> {
        let path = self.0.join("maps").join(map);
        let mut command = Command::new("bpftool");
        command.args(["map", "delete", "pinned"]).arg(path).args(["key", "hex"]);
        command.args(key.to_ne_bytes().map(|byte| format!("{byte:02x}")));
        run(&mut command).map(drop)
    }

    fn link(&self, interface: &str) -> PathBuf {
        self.0.join("links").join(format!("native-{interface}"))
    }

    /// `bpftool link detach`: the program is off the interface, and the pin stays.
    pub fn detach(&self, interface: &str) -> Result<()> {
        run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(self.link(interface))).map(drop)
    }

    /// Puts a program of the tests in the place of the balancer's (BPF_LINK_UPDATE).
    pub fn replace_program(&self, namespace: &Namespace, interface: &str, name: &str) -> Result<Ebpf> {
        let path = self.link(interface);
        namespace.enter(|| {
            let mut object = programs::object()?;
            let program: &mut Xdp = programs::load(&mut object, name)?;
            let link = FdLink::from(PinnedLink::from_pin(&path).context("opening the pinned link")?);
            program.attach_to_link(XdpLink::try_from(link)?)?;
            Ok(object)
        })?
    }
}
