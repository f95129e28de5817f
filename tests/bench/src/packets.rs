//! Nanoseconds a packet, by BPF_PROG_TEST_RUN through the driver (see `tests/ebpf/src/driver.rs`), of the real program and
//! of floors in the same run: every round measures every program once, and medians over rounds are compared.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use balancer_common::hash::HashKeys;
use balancer_common::layout::{BackendEntry, ServiceKey};
use serde::Serialize;

use super::frame::template;
use super::median;
use super::product::{BACKENDS, KEYS, Product, SLOTS, backend, key};
use super::subjects::{DRIVER, PLAIN_SERVICES, Packet, Program, SUBJECTS, Service, Subject};
use harness::programs;

const FLOWS: [u32; 3] = [1, 10_000, 1_000_000];
const ROUNDS: usize = 7;
/// Packets of one measurement.
const REPEAT: u32 = 1_000_000;
/// Coprime to the numbers of flows, so that all of them come by in no simple order, and another one than that in which
/// they began.
const STRIDE: u32 = 618_031;
/// Bytes that the driver puts back.
const TEMPLATE: usize = 80;
const FLOORS: [&str; 7] =
    ["floor_nothing", "floor_parse", "floor_lookup", "floor_l2", "floor_ipip", "floor_ipip6", "floor_flow"];

/// As in the driver.
#[repr(C)]
#[derive(Clone, Copy)]
struct Load {
    template: [u8; TEMPLATE],
    length: u32,
    source_offset: u32,
    checksum_offset: u32,
    sum: u32,
    flows: u32,
    stride: u32,
    flow: u32,
    _padding: u32,
}
// SAFETY: integers only, no implicit padding.
unsafe impl aya::Pod for Load {}

/// As in the floors.
#[repr(C)]
#[derive(Clone, Copy)]
struct FloorService {
    keys: HashKeys,
    slots: u32,
    _padding: u32,
}
// SAFETY: integers only, no implicit padding.
unsafe impl aya::Pod for FloorService {}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// Median nanoseconds a packet, driver included, at 1, 10,000 and 1,000,000 flows.
    pub ns: [f64; 3],
    /// What this is compared with.
    pub base: Option<&'static str>,
    /// Cost without the driver over the base's without it, at each number of flows.
    pub ratio: Option<[f64; 3]>,
    /// Growth from 10,000 to 1,000,000 flows over the base's growth, driver included.
    pub growth: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub verified_instructions: Option<u32>,
}

struct Bench {
    object: Ebpf,
    plain: Product,
    full: Product,
}

/// Measures everything, or what has one of the words of `only` in its name and what that is compared with; `progress` is
/// told what is being done.
pub fn run(only: &[String], progress: impl Fn(&str)) -> Result<Report> {
    let subjects = chosen(only);
    progress("packets: filling maps");
    let mut bench = Bench::new()?;
    let mut samples = vec![[(); 3].map(|()| Vec::new()); subjects.len()];
    for round in 0..ROUNDS {
        progress(&format!("packets: round {} of {ROUNDS}", round + 1));
        for (at, flows) in FLOWS.into_iter().enumerate() {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                samples[at].push(bench.measure(subject, flows).context(subject.name)?);
            }
        }
    }
    let medians: Vec<[f64; 3]> = samples.into_iter().map(|by_flows| by_flows.map(median)).collect();
    let verified_instructions = bench.plain.plane.xdp()?.info()?.verified_instruction_count();
    Ok(Report { rows: rows(&subjects, &medians), verified_instructions })
}

fn chosen(only: &[String]) -> Vec<&'static Subject> {
    let named = |subject: &&Subject| only.is_empty() || only.iter().any(|word| subject.name.contains(word.as_str()));
    let mut wanted: Vec<&str> = SUBJECTS.iter().filter(named).map(|subject| subject.name).collect();
    wanted.push(DRIVER);
    // What is compared with stands before.
    for subject in SUBJECTS.iter().rev() {
        if wanted.contains(&subject.name) {
            wanted.extend(subject.base);
        }
    }
    SUBJECTS.iter().filter(|subject| wanted.contains(&subject.name)).collect()
}

fn rows(subjects: &[&'static Subject], medians: &[[f64; 3]]) -> Vec<Row> {
    let of = |name| subjects.iter().position(|subject| subject.name == name).map(|at| medians[at]);
    let driver = of(DRIVER).unwrap_or_default();
    let row = |(subject, ns): (&&'static Subject, &[f64; 3])| {
        let base = subject.base.and_then(of);
        let net = |at: usize, of: &[f64; 3]| of[at] - driver[at];
        Row {
            name: subject.name,
            ns: *ns,
            base: subject.base,
            ratio: base.map(|base| [0, 1, 2].map(|at| net(at, ns) / net(at, &base))),
            growth: base.map(|base| (ns[2] / ns[1]) / (base[2] / base[1])),
        }
    };
    subjects.iter().zip(medians).map(row).collect()
}

impl Bench {
    fn new() -> Result<Self> {
        let mut bench = Self { object: programs::object()?, plain: Product::new(false)?, full: Product::new(true)? };
        for name in ["driver"].iter().chain(&FLOORS) {
            programs::load(&mut bench.object, name)?;
        }
        bench.fill_floors()?;
        Ok(bench)
    }

    fn fill_floors(&mut self) -> Result<()> {
        let object = &mut self.object;
        let mut slots: Array<_, u64> = object.map_mut("FLOOR_SLOTS").context("FLOOR_SLOTS")?.try_into()?;
        let owner = |slot: u32| u64::from(slot % u32::from(BACKENDS) + 1) * 0x0001_0001;
        for value in 0..SLOTS / 2 {
            slots.set(value, owner(value * 2) | owner(value * 2 + 1) << 32, 0)?;
        }
        slots.set(SLOTS / 2, owner(SLOTS - 1), 0)?;
        let mut services: HashMap<_, ServiceKey, FloorService> =
            object.map_mut("FLOOR_SERVICES").context("FLOOR_SERVICES")?.try_into()?;
        for ipv6 in [false, true] {
            let Service { protocol, port, .. } = PLAIN_SERVICES[0];
            services.insert(key(ipv6, protocol, port), FloorService { keys: KEYS, slots: SLOTS, _padding: 0 }, 0)?;
        }
        Ok(())
    }

    /// Floors send to one family or the other: their backends are of the family asked for.
    fn fill_floor_backends(&mut self, ipv6: bool) -> Result<()> {
        let map = self.object.map_mut("FLOOR_BACKENDS").context("FLOOR_BACKENDS")?;
        let mut backends: Array<_, BackendEntry> = map.try_into()?;
        let service = PLAIN_SERVICES.iter().find(|service| service.ipv6 == ipv6).context("no such service")?;
        for index in 1..=BACKENDS {
            backends.set(u32::from(index), backend(service, index), 0)?;
        }
        Ok(())
    }

    /// Nanoseconds a packet, driver included.
    fn measure(&mut self, subject: &Subject, flows: u32) -> Result<f64> {
        if let Program::Floor(_) = subject.program {
            self.fill_floor_backends(subject.packet.ipv6)?;
        }
        let descriptor = self.descriptor(subject.program)?;
        let mut under_test: ProgramArray<_> = self.object.map_mut("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        under_test.set(0, &descriptor, 0)?;
        // Each flow once: what is remembered of it is remembered, and the caches are as full as they get.
        let before = Packet { kind: subject.before.unwrap_or(subject.packet.kind), ..subject.packet };
        self.send(before, flows, flows.min(REPEAT), 1)?;
        self.full.watch(subject.program == Program::Watched)?;
        let ns = self.send(subject.packet, flows, REPEAT, STRIDE);
        self.full.watch(false)?;
        ns
    }

    fn send(&mut self, packet: Packet, flows: u32, repeat: u32, stride: u32) -> Result<f64> {
        let packet = template(packet);
        let mut load: Array<_, Load> = self.object.map_mut("LOAD").context("LOAD")?.try_into()?;
        let content = Load {
            template: packet.bytes[..TEMPLATE].try_into()?,
            length: packet.bytes.len() as u32,
            source_offset: packet.source_offset,
            checksum_offset: packet.checksum_offset,
            sum: packet.sum,
            flows,
            stride: stride % flows,
            flow: 0,
            _padding: 0,
        };
        load.set(0, content, 0)?;
        let driver: &mut Xdp = self.object.program_mut("driver").context("driver")?.try_into()?;
        let options = TestRunOptions { data_in: Some(&packet.bytes), repeat, ..TestRunOptions::default() };
        let result = driver.test_run(options)?;
        anyhow::ensure!(result.return_value != 0, "aborted");
        Ok(result.duration.as_secs_f64() * 1e9)
    }

    fn descriptor(&mut self, program: Program) -> Result<ProgramFd> {
        let program: &mut Xdp = match program {
            Program::Plain => self.plain.plane.xdp()?,
            Program::Full | Program::Watched => self.full.plane.xdp()?,
            Program::Floor(floor) => self.object.program_mut(floor).context("no such floor")?.try_into()?,
        };
        Ok(program.fd()?.try_clone()?)
    }
}
