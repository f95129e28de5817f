//! The program once more, over maps of its own: tables are tried there before a packet sees them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions};
use balancer_common::layout::{BackendEntry, flags};
use balancer_common::slot::{BackendIndex, Slot};

use super::image::Image;
use super::load::DataPlane;
use super::pins::Pins;
use super::published::Published;
use super::syscall;
use super::table::NewTable;
use crate::model::{DatapathLog, Limits};

/// Nothing of it is attached to an interface, and nothing stays pinned.
pub struct Shadow {
    plane: DataPlane,
    image: Image,
    /// By their places.
    tables: BTreeMap<u32, Published>,
}

impl DataPlane {
    /// Loads the shadow.
    ///
    /// # Errors
    /// Where the kernel does not load the program a second time.
    pub fn shadow(&self) -> Result<Shadow> {
        let root = self.pins.shadow();
        // What a controller left that was killed here.
        let _ = super::detach::detach(&root);
        let pins = Pins::create(&root)?;
        // Of what no table needs, the least.
        let limits = Limits { fragments: 1, acl_prefixes: 1, sources: 1, ..self.limits };
        let (plane, _) = DataPlane::load(pins, limits, DatapathLog::Off).context("loading the program's shadow")?;
        Ok(Shadow { plane, image: Image::default(), tables: BTreeMap::new() })
    }
}

impl Shadow {
    /// Has the shadow forward by the services and backends of `image` and by the owners in `tables`, which stand at their
    /// places. Open slots are closed there: what matters is where new flows go.
    pub fn prepare<'t>(
        &mut self,
        mut image: Image,
        tables: impl IntoIterator<Item = &'t (u32, NewTable)>,
    ) -> Result<()> {
        // Who may open flows, what QUIC packets say and which flows there were is not what tables decide.
        let apart = flags::GUARDED | flags::QUIC | flags::FORMER | flags::TRACK_ALL;
        image.index.entries.values_mut().chain(image.prefixes.values_mut()).for_each(|entry| entry.flags &= !apart);
        image.server_ids.clear();
        let mut new = Vec::new();
        for (place, table) in tables {
            let slots: Vec<Slot> = table.table.read().iter().map(|slot| Slot::closed(slot.owner())).collect();
            match self.tables.get_mut(place).filter(|there| there.count() as usize == slots.len()) {
                // No packet reads it now.
                Some(there) => there.overwrite(&slots),
                None => new.push((*place, Published::new(&slots)?)),
            }
        }
        self.put(new)?;
        self.plane.apply(self.image.changes_to(&image))?;
        self.image = image;
        Ok(())
    }

    /// By one system call: each waits until the last packet has left the tables before.
    fn put(&mut self, tables: Vec<(u32, Published)>) -> Result<()> {
        if tables.is_empty() {
            return Ok(());
        }
        let (places, descriptors): (Vec<_>, Vec<_>) =
            tables.iter().map(|(place, table)| (*place, table.descriptor())).unzip();
        syscall::update(self.plane.table_map.fd().as_fd(), &places, &descriptors).context("tables of the shadow")?;
        self.tables.extend(tables);
        Ok(())
    }

    /// Has the shadow forward by `image` and by this one table, as the data plane itself would publish it.
    pub fn publish(&mut self, image: Image, place: u32, slots: &[Slot]) -> Result<()> {
        let mut changes = self.image.changes_to(&image);
        changes.publish.push((place, NewTable::new(slots)?));
        self.plane.apply(changes)?;
        self.image = image;
        Ok(())
    }

    pub fn plane(&self) -> &DataPlane {
        &self.plane
    }

    pub fn plane_mut(&mut self) -> &mut DataPlane {
        &mut self.plane
    }

    /// As somebody else would: what was written stays what is expected.
    pub fn overwrite_slot(&mut self, place: u32, slot: u32, with: Slot) -> Result<()> {
        self.plane.tables.get(&place).context("there is no such table")?.put(slot, with)
    }

    /// As [`Shadow::overwrite_slot`]: the entry is empty then.
    pub fn overwrite_backend(&mut self, index: BackendIndex) -> Result<()> {
        Ok(self.plane.backends.set(u32::from(index), BackendEntry::default(), 0)?)
    }

    /// What the program does with a frame: XDP's answer.
    pub fn send(&mut self, frame: &[u8]) -> Result<u32> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        Ok(self.plane.xdp()?.test_run(options).context("trying a packet in the shadow")?.return_value)
    }

    /// Packets that were sent to each of these backends.
    pub fn packets_of(&self, indices: &[BackendIndex]) -> Result<BTreeMap<BackendIndex, u64>> {
        let counters = self.plane.counters_of(indices)?;
        Ok(counters.into_iter().map(|(index, counters)| (index, counters.packets)).collect())
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let _ = super::detach::detach(self.plane.pins.root());
    }
}
