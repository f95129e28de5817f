//! Loading the program over the pinned maps.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use balancer_common::capture::Filter;
use balancer_common::layout::{
    BackendCounters, BackendEntry, Bucket, Former, FragmentEntry, FragmentKey, LAYOUT_VERSION, RateLimits, ServerIdKey,
    ServiceCounters, ServiceEntry, Settings,
};
use balancer_common::slot::{BackendIndex, GroupCounts};
use balancer_common::verdict::Reason;

use super::counters::CounterMaps;
use super::events::Events;
use super::flows::Tracks;
use super::index::{self, IndexMaps};
use super::mapped::Mapped;
use super::pins::Pins;
use super::published::Published;
use super::{counters, syscall};
use crate::model::{DatapathLog, Limits};

/// The program's name, in the object and in the kernel.
pub(super) const PROGRAM: &str = "balancer";

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
    pub(super) index: IndexMaps,
    pub(super) prefixes: LpmTrie<MapData, [u32; 5], ServiceEntry>,
    pub(super) backends: Array<MapData, BackendEntry>,
    pub(super) counters: PerCpuArray<MapData, BackendCounters>,
    /// The same maps as `backends` and the counters, for reading in batches.
    pub(super) backends_fd: OwnedFd,
    counters_fd: OwnedFd,
    groups_fd: OwnedFd,
    service_counters_fd: OwnedFd,
    pub(super) service_counters: PerCpuArray<MapData, ServiceCounters>,
    pub(super) server_ids: HashMap<MapData, ServerIdKey, u32>,
    pub(super) former: Array<MapData, Former>,
    pub(super) acl: LpmTrie<MapData, [u32; 5], u32>,
    pub(super) rates: Array<MapData, RateLimits>,
    pub(super) buckets: Array<MapData, Bucket>,
    drops_fd: OwnedFd,
    pub(super) settings: Mapped,
    /// Words of the settings as written from here; those that packets or time change are not kept up.
    pub(super) written: [u64; SETTINGS_WORDS],
    pub(super) program_id: u32,
    pub(super) filter: Array<MapData, Filter>,
    pub(super) fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    events: Option<Events>,
    pub(super) table_map: MapData,
    pub(super) tables: BTreeMap<u32, Published>,
    pub(super) tracks: Tracks,
    pub(super) limits: Limits,
    instance: u64,
    /// Whether the maps were there before.
    adopted: bool,
}

/// A map whose size a limit decides: its name, the setting, and how many entries a value of it asks for.
struct MapSize {
    map: &'static str,
    setting: &'static str,
    value: u32,
    entries: fn(u32) -> u32,
}

fn sizes(limits: &Limits) -> Vec<MapSize> {
    let of = |map, setting, value, entries| MapSize { map, setting, value, entries };
    let services = |map, entries| of(map, "limits.services", limits.services, entries);
    let backends = |map, entries| of(map, "limits.backends", limits.backends, entries);
    vec![
        // The table in force and the one before it, and a place that is never used: see `grace_period`.
        services("TABLES", |n| n * 2 + 1),
        services("FORMER", |n| n),
        services("ACTIVITY", |n| n),
        services("FLOWS", |n| n),
        services("SERVICE_COUNTERS", |n| n),
        services("RATES", |n| n),
        services("BUCKETS", |n| n),
        // A service on a prefix has an entry for its ports and one for its addresses.
        services("PREFIXES", |n| n * 2),
        // Index 0 is no backend.
        backends("BACKENDS", |n| n + 1),
        backends("COUNTERS", |n| n + 1),
        backends("GROUPS", |n| n + 1),
        backends("SERVER_IDS", |n| n),
        of("FRAGMENTS", "limits.fragments", limits.fragments, |n| n),
        // While one list replaces another both are there.
        of("ACL", "limits.acl_prefixes", limits.acl_prefixes, |n| n * 2),
        of("SOURCES", "limits.sources", limits.sources, |n| n),
    ]
}

impl DataPlane {
    /// Loads the program over the maps pinned in `pins`, or over new ones. Forwarding that goes on meanwhile is not
    /// touched until [`DataPlane::attach`]. The logger must be polled for messages of the program to reach the log.
    pub fn load(pins: Pins, limits: Limits, log: DatapathLog) -> Result<(Self, EbpfLogger<&'static dyn log::Log>)> {
        let adopted = check_pins(&pins, &limits)?;
        let level = log as u8;
        let maps_dir = pins.maps();
        let mut loader = EbpfLoader::new();
        let of_maps = ["TABLES", "ACTIVITY", "FLOWS"].map(|name| (name, pins.map(name)));
        loader.default_map_pin_directory(&maps_dir);
        for (name, path) in &of_maps {
            loader.map_pin_path(name, path.as_path());
        }
        loader.override_global(aya_log::LEVEL, &level, false);
        for size in sizes(&limits) {
            loader.map_max_entries(size.map, (size.entries)(size.value));
        }
        let capacity = index::capacity(&limits);
        loader
            .map_max_entries("INDEX", capacity.lines() * 2)
            .map_max_entries("SEEDS", capacity.seeds() * 2)
            .map_max_entries("RANGES", capacity.ranges() * 2);
        let mut program = loader.load(OBJECT).map_err(|error| LoadError::Program(chain(&error)))?;
        let logger = EbpfLogger::init(&mut program).context("opening the program's log")?;
        xdp(&mut program)?.load().map_err(|error| LoadError::Program(chain(&error)))?;
        let program_id = xdp(&mut program)?.info().context("asking for the program's number")?.id();
        let mut take = |name: &str| program.take_map(name).with_context(|| format!("the object has no map {name}"));
        let (backends, counters, service_counters) = (take("BACKENDS")?, take("COUNTERS")?, take("SERVICE_COUNTERS")?);
        let tracks = Tracks::new(data(take("FLOWS")?)?, data(take("ACTIVITY")?)?);
        let lines = [data(take("INDEX")?)?, data(take("SEEDS")?)?, data(take("RANGES")?)?];
        let mut plane = Self {
            index: IndexMaps::new(&lines[0], &lines[1], &lines[2], &limits)?,
            backends_fd: descriptor(&backends)?,
            counters_fd: descriptor(&counters)?,
            groups_fd: descriptor(&take("GROUPS")?)?,
            service_counters_fd: descriptor(&service_counters)?,
            service_counters: service_counters.try_into()?,
            prefixes: take("PREFIXES")?.try_into()?,
            backends: backends.try_into()?,
            counters: counters.try_into()?,
            server_ids: take("SERVER_IDS")?.try_into()?,
            former: take("FORMER")?.try_into()?,
            acl: take("ACL")?.try_into()?,
            rates: take("RATES")?.try_into()?,
            buckets: take("BUCKETS")?.try_into()?,
            drops_fd: descriptor(&take("DROPS")?)?,
            settings: Mapped::new(data(take("SETTINGS")?)?.fd(), SETTINGS_WORDS).context("mapping the settings")?,
            filter: take("FILTER")?.try_into()?,
            fragments: take("FRAGMENTS")?.try_into()?,
            events: Some(Events::new(take("EVENTS")?.try_into()?)),
            table_map: data(take("TABLES")?)?,
            program,
            pins,
            tables: BTreeMap::new(),
            tracks,
            written: [0; SETTINGS_WORDS],
            program_id,
            limits,
            instance: 0,
            adopted,
        };
        plane.instance = plane.settle_instance()?;
        Ok((plane, logger))
    }

    /// New maps get their number; old ones keep it.
    fn settle_instance(&mut self) -> Result<u64> {
        if self.settings.get(INSTANCE).unwrap_or(0) == 0 {
            let empty = self.index.fill(0, &index::IndexContent::default())?;
            let settings = Settings {
                layout_version: LAYOUT_VERSION,
                instance: rand::random::<u64>() | 1,
                index: empty,
                identity: rand::random(),
                ..Settings::default()
            };
            // SAFETY: same size, integers only and no padding.
            let words: [u64; SETTINGS_WORDS] = unsafe { std::mem::transmute(settings) };
            self.settings.write(0, &words);
        }
        // Whoever captured has gone.
        self.settings.set(CAPTURE, 0);
        self.written = std::array::from_fn(|place| self.settings.get(place).unwrap_or(0));
        Some(self.written[INSTANCE]).filter(|instance| *instance != 0).context("the settings are empty")
    }

    /// Ties notes on disk to these very maps.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The ring with the program's records; once.
    pub fn take_events(&mut self) -> Option<Events> {
        self.events.take()
    }

    /// Sums over all CPUs for the backends up to `highest`, by index.
    pub fn counters(&self, highest: BackendIndex) -> Result<Vec<counters::Counters>> {
        counters::read(self.counters_fd.as_fd(), u32::from(highest) + 1)
    }

    /// The same of single backends.
    pub fn counters_of(&self, indices: &[BackendIndex]) -> Result<BTreeMap<BackendIndex, counters::Counters>> {
        let one = |index: &BackendIndex| {
            let per_cpu = self.counters.get(&u32::from(*index), 0).context("reading a backend's counters")?;
            Ok((*index, counters::sum(per_cpu.iter())))
        };
        indices.iter().map(one).collect()
    }

    /// New flows by group of slots, sums over all CPUs for the backends up to `highest`, by index.
    pub fn groups(&self, highest: BackendIndex) -> Result<Vec<GroupCounts>> {
        counters::read_groups(self.groups_fd.as_fd(), u32::from(highest) + 1)
    }

    /// Sums over all CPUs for the services up to number `highest`.
    pub fn service_counters(&self, highest: u32) -> Result<Vec<ServiceCounters>> {
        counters::read_services(self.service_counters_fd.as_fd(), highest + 1)
    }

    /// Dropped packets by reason, in the order of [`Reason::ALL`].
    pub fn drops(&self) -> Result<Vec<u64>> {
        counters::read_drops(self.drops_fd.as_fd())
    }

    pub fn drops_by_reason(&self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(Reason::ALL.iter().map(|reason| reason.label()).zip(self.drops()?).collect())
    }

    /// Descriptors of its own, for whoever reads while others write.
    pub fn counter_maps(&self) -> Result<CounterMaps> {
        Ok(CounterMaps {
            backends: self.counters_fd.try_clone()?,
            services: self.service_counters_fd.try_clone()?,
            drops: self.drops_fd.try_clone()?,
        })
    }

    /// The loaded program, for `BPF_PROG_TEST_RUN`.
    pub fn xdp(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.program)
    }

    /// Writes a word of the settings, and remembers that.
    pub(super) fn set_word(&mut self, place: usize, value: u64) {
        self.written[place] = value;
        self.settings.set(place, value);
    }

    pub(super) fn index_word(&self) -> u64 {
        self.settings.get(INDEX).unwrap_or(0)
    }
}

/// Words of the settings, and places of those that change.
pub(super) const SETTINGS_WORDS: usize = size_of::<Settings>() / size_of::<u64>();
pub(super) const INSTANCE: usize = std::mem::offset_of!(Settings, instance) / 8;
pub(super) const HEAD: usize = 0;
pub(super) const INDEX: usize = std::mem::offset_of!(Settings, index) / 8;
pub(super) const IDENTITY: usize = std::mem::offset_of!(Settings, identity) / 8;
pub(super) const CLOCK: usize = std::mem::offset_of!(Settings, clock) / 8;
pub(super) const CAPTURE: usize = std::mem::offset_of!(Settings, capture) / 8;

fn data(map: Map) -> Result<MapData> {
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) => Ok(data),
        _ => bail!("the object's map has another type than this version's"),
    }
}

fn descriptor(map: &Map) -> Result<OwnedFd> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) => Ok(data.fd().as_fd().try_clone_to_owned()?),
        _ => bail!("the object's map has another type than this version's"),
    }
}

pub(super) fn xdp(program: &mut Ebpf) -> Result<&mut Xdp> {
    let program = program.program_mut(PROGRAM).context("the object has no program `balancer`")?;
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

/// Whether there are maps to take over; an error where they don't fit, since aya would use them all the same.
fn check_pins(pins: &Pins, limits: &Limits) -> Result<bool> {
    let settings = pins.map("SETTINGS");
    if !settings.exists() {
        // Maps without settings are left of a load that didn't finish: nothing uses them.
        remove_files(&pins.maps());
        remove_files(&pins.tables());
        return Ok(false);
    }
    let map = MapData::from_pin(&settings).context("opening the pinned settings")?;
    let words: Vec<u64> = syscall::read_first(map.fd().as_fd(), map.info()?.value_size() as usize)?;
    let (version, instance) = (words.first().map_or(0, |word| *word as u32), words.get(1).copied().unwrap_or(0));
    if version != LAYOUT_VERSION && instance != 0 {
        return Err(LoadError::Layout { found: version }.into());
    }
    for size in sizes(limits) {
        let path = pins.map(size.map);
        if !path.exists() {
            continue;
        }
        let there = MapInfo::from_pin(&path).with_context(|| format!("opening {}", path.display()))?.max_entries();
        if there != (size.entries)(size.value) {
            let found = (1..=there).find(|value| (size.entries)(*value) == there).unwrap_or(there);
            return Err(LoadError::Limit { setting: size.setting, wanted: size.value, found }.into());
        }
    }
    Ok(instance != 0)
}

fn remove_files(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}
