//! Loading the program over the pinned maps, and writing to them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use balancer_common::layout::{
    BackendCounters, BackendEntry, LAYOUT_VERSION, ReplyEntry, ServiceEntry, ServiceKey, Settings,
};
use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Reason;

use super::image::{Changes, Image, TableState};
use super::pins::Pins;
use super::table::{TableCounts, pin_over};
use super::{counters, syscall};
use crate::model::{DatapathLog, Limits};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BALANCER_EBPF_OBJECT_PATH"));

/// Why what is pinned can't be taken over.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "`{setting}` = {wanted} but the data plane was loaded with {found}; the size is fixed while it runs: set it back, \
         or run `balancer detach` first (this interrupts forwarding)"
    )]
    Limit { setting: &'static str, wanted: u32, found: u32 },
    #[error(
        "the pinned maps have layout {found} and this version writes layout {LAYOUT_VERSION}; \
         run `balancer detach` first (this interrupts forwarding)"
    )]
    Layout { found: u32 },
    #[error(
        "the kernel did not load the program: {0}\nIt needs Linux 5.18 or newer, CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON (run as root), and the BPF JIT"
    )]
    Program(String),
}

/// The loaded program and its maps.
pub struct DataPlane {
    pub(super) program: Ebpf,
    pub(super) pins: Pins,
    services: HashMap<MapData, ServiceKey, ServiceEntry>,
    replies: HashMap<MapData, ServiceKey, ReplyEntry>,
    backends: Array<MapData, BackendEntry>,
    counters: PerCpuArray<MapData, BackendCounters>,
    /// The same maps as `backends` and `counters`, for reading in batches.
    backends_fd: OwnedFd,
    counters_fd: OwnedFd,
    drops: PerCpuArray<MapData, u64>,
    settings: Array<MapData, Settings>,
    table_map: MapData,
    pub(super) tables: BTreeMap<u32, MapData>,
    limits: Limits,
    instance: u64,
    /// Whether the maps were there before.
    adopted: bool,
}

/// Names of the object's maps, how many entries each gets, and the setting that says so.
fn sizes(limits: &Limits) -> [(&'static str, u32, &'static str); 5] {
    [
        // Each service has an entry, and each VIP.
        ("SERVICES", limits.services * 2, "limits.services"),
        // A service that changes its table's size has two for a moment.
        ("TABLES", limits.services * 2, "limits.services"),
        // Index 0 is no backend.
        ("BACKENDS", limits.backends + 1, "limits.backends"),
        ("COUNTERS", limits.backends + 1, "limits.backends"),
        ("REPLIES", limits.backends, "limits.backends"),
    ]
}

impl DataPlane {
    /// Loads the program over the maps pinned in `pins`, or over new ones. Forwarding that goes on meanwhile is not
    /// touched until [`DataPlane::attach`]. The logger must be polled for messages of the program to reach the log.
    pub fn load(pins: Pins, limits: Limits, log: DatapathLog) -> Result<(Self, EbpfLogger<&'static dyn log::Log>)> {
        let adopted = check_pins(&pins, &limits)?;
        let level = log as u8;
        let tables_pin = pins.map("TABLES");
        let maps_dir = pins.maps();
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(&maps_dir).map_pin_path("TABLES", tables_pin.as_path());
        loader.override_global(aya_log::LEVEL, &level, false);
        for (name, entries, _) in sizes(&limits) {
            loader.map_max_entries(name, entries);
        }
        let mut program = loader.load(OBJECT).map_err(|error| LoadError::Program(chain(&error)))?;
        let logger = EbpfLogger::init(&mut program).context("opening the program's log")?;
        xdp(&mut program)?.load().map_err(|error| LoadError::Program(chain(&error)))?;
        let table_map = match program.take_map("TABLES") {
            Some(Map::ArrayOfMaps(data)) => data,
            _ => bail!("the object has no map of tables"),
        };
        let mut take = |name: &str| program.take_map(name).with_context(|| format!("the object has no map {name}"));
        let (backends, counters) = (take("BACKENDS")?, take("COUNTERS")?);
        let mut plane = Self {
            backends_fd: descriptor(&backends)?,
            counters_fd: descriptor(&counters)?,
            services: take("SERVICES")?.try_into()?,
            replies: take("REPLIES")?.try_into()?,
            backends: backends.try_into()?,
            counters: counters.try_into()?,
            drops: take("DROPS")?.try_into()?,
            settings: take("SETTINGS")?.try_into()?,
            program,
            pins,
            table_map,
            tables: BTreeMap::new(),
            limits,
            instance: 0,
            adopted,
        };
        plane.instance = plane.settle_instance()?;
        Ok((plane, logger))
    }

    /// New maps get their number; old ones keep it.
    fn settle_instance(&mut self) -> Result<u64> {
        let mut settings = self.settings.get(&0, 0)?;
        if settings.instance == 0 {
            settings = Settings { layout_version: LAYOUT_VERSION, nat: 0, instance: rand::random::<u64>() | 1 };
            self.settings.set(0, settings, 0)?;
        }
        Ok(settings.instance)
    }

    /// Ties notes on disk to these very maps.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Reads back everything the maps hold.
    pub fn read_back(&mut self) -> Result<(Image, TableState)> {
        let mut image = Image {
            services: self.services.iter().collect::<Result<_, _>>().context("reading the services back")?,
            replies: self.replies.iter().collect::<Result<_, _>>().context("reading the replies back")?,
            ..Image::default()
        };
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
        let mut tables = TableState::new();
        for entry in image.services.values().filter(|entry| entry.table_size > 0) {
            let Ok(map) = MapData::from_pin(self.pins.table(entry.table)) else { continue };
            let published = syscall::look_up(self.table_map.fd().as_fd(), entry.table).ok();
            if published == Some(map.info()?.id()) {
                tables.insert(entry.table, TableCounts::read(&map, entry.table_size)?);
                self.tables.insert(entry.table, map);
            }
        }
        Ok((image, tables))
    }

    /// Reads one table back from the kernel's memory, after checking that it is the one the program sees.
    pub fn read_table(&self, place: u32, slots: u32) -> Result<TableCounts> {
        let map = self.tables.get(&place).with_context(|| format!("there is no table at {place}"))?;
        let published = syscall::look_up(self.table_map.fd().as_fd(), place).context("reading the map of tables")?;
        let (ours, place_is) = (map.info()?.id(), published);
        anyhow::ensure!(ours == place_is, "the program sees table {place_is} where {ours} was published");
        TableCounts::read(map, slots)
    }

    /// Writes `changes`, in an order in which every packet finds either the state before or the one after, whole:
    /// what is pointed to before what points to it, and the reverse for what goes.
    pub fn apply(&mut self, changes: Changes) -> Result<()> {
        for (index, entry) in &changes.set_backends {
            self.backends.set(u32::from(*index), entry, 0).with_context(|| full("backend", "limits.backends"))?;
        }
        for (key, entry) in &changes.set_replies {
            self.replies.insert(key, entry, 0).with_context(|| full("reply", "limits.backends"))?;
        }
        if !changes.set_replies.is_empty() {
            self.set_nat(true)?;
        }
        self.publish(&changes.publish)?;
        for (key, entry) in &changes.set_services {
            let replaced = self.services.get(key, 0).is_ok();
            self.services.insert(key, entry, 0).with_context(|| full("service", "limits.services"))?;
            if replaced {
                self.grace_period()?;
            }
        }
        for key in &changes.remove_services {
            self.services.remove(key).or_else(absent).context("removing a service")?;
        }
        for key in &changes.remove_replies {
            self.replies.remove(key).or_else(absent).context("removing a reply")?;
        }
        if !changes.remove_services.is_empty() || !changes.remove_replies.is_empty() {
            self.grace_period()?;
        }
        if !changes.remove_replies.is_empty() && self.replies.keys().next().is_none() {
            self.set_nat(false)?;
        }
        for place in &changes.remove_tables {
            syscall::delete(self.table_map.fd().as_fd(), *place).ok();
            self.tables.remove(place);
            let _ = std::fs::remove_file(self.pins.table(*place));
        }
        for index in &changes.clear_backends {
            self.backends.set(u32::from(*index), BackendEntry::default(), 0).context("clearing a backend")?;
        }
        Ok(())
    }

    /// Swaps whole tables in, all with one system call and one grace period.
    fn publish(&mut self, tables: &[(u32, super::NewTable)]) -> Result<()> {
        for (place, table) in tables {
            pin_over(&table.map, &self.pins.table(*place))?;
        }
        let places: Vec<u32> = tables.iter().map(|(place, _)| *place).collect();
        let descriptors: Vec<u32> = tables.iter().map(|(_, t)| t.map.fd().as_fd().as_raw_fd() as u32).collect();
        syscall::update(self.table_map.fd().as_fd(), &places, &descriptors)
            .with_context(|| full("table", "limits.services"))?;
        for (place, table) in tables {
            let map = MapData::from_fd(table.map.fd().as_fd().try_clone_to_owned()?)?;
            self.tables.insert(*place, map);
        }
        Ok(())
    }

    /// Waits until no packet is in the program that was there before. The kernel does so after each change of a map of
    /// maps; the last place is never used.
    fn grace_period(&self) -> Result<()> {
        syscall::delete(self.table_map.fd().as_fd(), self.limits.services * 2 - 1).ok();
        Ok(())
    }

    fn set_nat(&mut self, nat: bool) -> Result<()> {
        let settings = self.settings.get(&0, 0)?;
        if (settings.nat != 0) != nat {
            self.settings.set(0, Settings { nat: u32::from(nat), ..settings }, 0)?;
        }
        Ok(())
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

    /// Sums over all CPUs for the backends up to `highest`, by index.
    pub fn counters(&self, highest: BackendIndex) -> Result<Vec<counters::Counters>> {
        counters::read(self.counters_fd.as_fd(), u32::from(highest) + 1)
    }

    /// Dropped packets by reason, in the order of [`Reason::ALL`].
    pub fn drops(&self) -> Result<Vec<u64>> {
        let read = |place| Ok(self.drops.get(&(place as u32), 0)?.iter().sum());
        (0..Reason::ALL.len()).map(read).collect()
    }

    pub fn service_entries(&self) -> usize {
        self.services.keys().count()
    }

    pub(super) fn look_up_service(&self, key: &ServiceKey) -> Option<ServiceEntry> {
        self.services.get(key, 0).ok()
    }

    pub(super) fn look_up_backend(&self, index: BackendIndex) -> Option<BackendEntry> {
        self.backends.get(&u32::from(index), 0).ok()
    }

    pub(super) fn look_up_reply(&self, key: &ServiceKey) -> Option<ReplyEntry> {
        self.replies.get(key, 0).ok()
    }

    /// The loaded program, for `BPF_PROG_TEST_RUN`.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.program)
    }
}

fn descriptor(map: &Map) -> Result<OwnedFd> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) => Ok(data.fd().as_fd().try_clone_to_owned()?),
        _ => bail!("the object's map has another type than this version's"),
    }
}

pub(super) fn xdp(program: &mut Ebpf) -> Result<&mut Xdp> {
    let program = program.program_mut("balancer").context("the object has no program `balancer`")?;
    Ok(program.try_into()?)
}

/// What the kernel and the verifier said, all of it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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

/// Whether there are maps to take over; an error where they don't fit, since aya would use them all the same.
fn check_pins(pins: &Pins, limits: &Limits) -> Result<bool> {
    let settings = pins.map("SETTINGS");
    if !settings.exists() {
        // Maps without settings are left of a load that didn't finish: nothing uses them.
        remove_files(&pins.maps());
        remove_files(&pins.tables());
        return Ok(false);
    }
    let map = Map::from_map_data(MapData::from_pin(&settings).context("opening the pinned settings")?)?;
    let found = Array::<_, Settings>::try_from(map).ok().and_then(|map| map.get(&0, 0).ok()).unwrap_or_default();
    if found.layout_version != LAYOUT_VERSION && found.instance != 0 {
        return Err(LoadError::Layout { found: found.layout_version }.into());
    }
    for (name, entries, setting) in sizes(limits) {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).with_context(|| format!("opening {}", path.display()))?;
        if info.max_entries() != entries {
            let scale = |n: u32| if setting == "limits.services" { n / 2 } else { n - u32::from(name != "REPLIES") };
            return Err(LoadError::Limit { setting, wanted: scale(entries), found: scale(info.max_entries()) }.into());
        }
    }
    Ok(found.instance != 0)
}

fn remove_files(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}
