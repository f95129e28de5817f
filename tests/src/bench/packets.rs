//! Nanoseconds a packet, by BPF_PROG_TEST_RUN through the driver (see `tests/ebpf/src/driver.rs`), of the real program and
//! of floors in the same run: every round measures every program once, and medians over rounds are compared.

use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use balancer::dataplane::{Changes, DataPlane, IndexContent, NewTable, Pins, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::encap;
use balancer_common::hash::HashKeys;
use balancer_common::layout::{BackendEntry, Kind, ServiceEntry, ServiceKey, forward};
use balancer_common::slot::Slot;
use serde::Serialize;

use crate::netns::unique;
use crate::programs;

const FLOWS: [u32; 3] = [1, 10_000, 1_000_000];
const ROUNDS: usize = 9;
/// Packets of one measurement.
const REPEAT: u32 = 1_000_000;
const SLOTS: u32 = 65_537;
const BACKENDS: u16 = 10;
/// Length of every packet.
const LENGTH: usize = 100;

/// As in the driver.
#[repr(C)]
#[derive(Clone, Copy)]
struct Load {
    template: [u8; 80],
    length: u32,
    source_offset: u32,
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
    /// The floor this is compared with.
    pub floor: Option<&'static str>,
    /// Cost without the driver over the floor's without it, at each number of flows.
    pub ratio: Option<[f64; 3]>,
    /// Growth from 10,000 to 1,000,000 flows over the floor's growth, driver included.
    pub growth: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub verified_instructions: Option<u32>,
}

/// What a packet is, and where it goes.
#[derive(Clone, Copy)]
struct Packet {
    ipv6: bool,
    protocol: u8,
    port: u16,
    flags: u8,
}

/// A program under test with a packet.
struct Subject {
    name: &'static str,
    program: &'static str,
    packet: Packet,
    floor: Option<&'static str>,
}

const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
/// Ports of the services: one for each forwarding mode.
const IPIP: u16 = 1000;
const L2: u16 = 1001;
const NAT: u16 = 1002;
const NOBODY: u16 = 9;

const fn tcp(port: u16, flags: u8) -> Packet {
    Packet { ipv6: false, protocol: 6, port, flags }
}

const SUBJECTS: &[Subject] = &[
    Subject { name: "driver alone", program: "floor_nothing", packet: tcp(IPIP, ACK), floor: None },
    Subject { name: "floor: parse", program: "floor_parse", packet: tcp(IPIP, ACK), floor: None },
    Subject { name: "floor: straight line, l2", program: "floor_l2", packet: tcp(IPIP, ACK), floor: None },
    Subject { name: "floor: straight line, ipip", program: "floor_ipip", packet: tcp(IPIP, ACK), floor: None },
    Subject {
        name: "floor: straight line, ipip IPv6",
        program: "floor_ipip6",
        packet: Packet { ipv6: true, ..tcp(IPIP, ACK) },
        floor: None,
    },
    Subject {
        name: "ipip, established TCP",
        program: "balancer",
        packet: tcp(IPIP, ACK),
        floor: Some("floor: straight line, ipip"),
    },
    Subject {
        name: "ipip, SYN",
        program: "balancer",
        packet: tcp(IPIP, SYN),
        floor: Some("floor: straight line, ipip"),
    },
    Subject {
        name: "ipip, UDP",
        program: "balancer",
        packet: Packet { protocol: 17, ..tcp(IPIP, 0) },
        floor: Some("floor: straight line, ipip"),
    },
    Subject {
        name: "ipip, IPv6 TCP",
        program: "balancer",
        packet: Packet { ipv6: true, ..tcp(IPIP, ACK) },
        floor: Some("floor: straight line, ipip IPv6"),
    },
    Subject {
        name: "l2, established TCP",
        program: "balancer",
        packet: tcp(L2, ACK),
        floor: Some("floor: straight line, l2"),
    },
    Subject {
        name: "nat, established TCP",
        program: "balancer",
        packet: tcp(NAT, ACK),
        floor: Some("floor: straight line, l2"),
    },
    Subject { name: "not for a service", program: "balancer", packet: tcp(NOBODY, ACK), floor: None },
];

struct Bench {
    object: Ebpf,
    plane: DataPlane,
    pin_dir: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = detach(&self.pin_dir);
    }
}

/// Measures everything; `progress` is told what is being done.
pub fn run(progress: impl Fn(&str)) -> Result<Report> {
    let mut bench = Bench::new()?;
    let mut samples = vec![[(); 3].map(|()| Vec::new()); SUBJECTS.len()];
    for round in 0..ROUNDS {
        progress(&format!("packets: round {} of {ROUNDS}", round + 1));
        for (at, flows) in FLOWS.into_iter().enumerate() {
            for (subject, samples) in SUBJECTS.iter().zip(&mut samples) {
                samples[at].push(bench.measure(subject, flows)?);
            }
        }
    }
    let medians: Vec<[f64; 3]> = samples.into_iter().map(|by_flows| by_flows.map(median)).collect();
    let verified_instructions = bench.plane.xdp()?.info()?.verified_instruction_count();
    Ok(Report { rows: rows(&medians), verified_instructions })
}

fn rows(medians: &[[f64; 3]]) -> Vec<Row> {
    let driver = medians[0];
    let row = |(subject, ns): (&Subject, &[f64; 3])| {
        let floor = subject.floor.and_then(|name| SUBJECTS.iter().position(|s| s.name == name)).map(|at| medians[at]);
        let net = |at: usize, of: &[f64; 3]| of[at] - driver[at];
        Row {
            name: subject.name,
            ns: *ns,
            floor: subject.floor,
            ratio: floor.map(|floor| [0, 1, 2].map(|at| net(at, ns) / net(at, &floor))),
            growth: floor.map(|floor| (ns[2] / ns[1]) / (floor[2] / floor[1])),
        }
    };
    SUBJECTS.iter().zip(medians).map(row).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Bench {
    fn new() -> Result<Self> {
        let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("bench"));
        let limits = Limits { services: 64, backends: 1000, table_size: SLOTS, ..Limits::DEFAULT };
        let (plane, _) = DataPlane::load(Pins::create(&pin_dir)?, limits, DatapathLog::Warn)?;
        let mut bench = Self { object: programs::object()?, plane, pin_dir };
        for name in ["driver", "floor_nothing", "floor_parse", "floor_l2", "floor_ipip", "floor_ipip6"] {
            programs::load(&mut bench.object, name)?;
        }
        bench.fill_product()?;
        bench.fill_floors()?;
        Ok(bench)
    }

    fn fill_product(&mut self) -> Result<()> {
        let mut changes = Changes::default();
        let mut index = IndexContent::default();
        let modes = [(IPIP, false, 6), (IPIP, false, 17), (IPIP, true, 6), (L2, false, 6), (NAT, false, 6)];
        for (number, (port, ipv6, protocol)) in modes.into_iter().enumerate() {
            let first = number as u16 * BACKENDS + 1;
            let key = key(ipv6, protocol, port);
            let entry = ServiceEntry {
                keys: KEYS,
                table: number as u32 * 2,
                table_size: SLOTS,
                port_mask: u32::MAX,
                number: number as u16,
                ..Default::default()
            };
            index.entries.insert(key, entry);
            index.ranges.entry(key.address_only()).or_default();
            let slots: Vec<Slot> = owners(first).into_iter().map(Slot::closed).collect();
            changes.publish.push((entry.table, NewTable::new(&slots)?));
            for place in first..first + BACKENDS {
                let backend = backend(port, ipv6, place);
                changes.set_backends.push((place, backend));
                if port == NAT {
                    let from = ServiceKey::new(backend.address, backend.port, protocol, key.family());
                    let reply = ServiceEntry::reply(key.address(), key.port(), 0);
                    index.entries.insert(from.with_kind(Kind::Reply), reply);
                }
            }
        }
        changes.index = Some(index);
        self.plane.apply(changes)
    }

    fn fill_floors(&mut self) -> Result<()> {
        let object = &mut self.object;
        let mut slots: Array<_, u64> = object.map_mut("FLOOR_SLOTS").context("FLOOR_SLOTS")?.try_into()?;
        for (value, pair) in owners(1).chunks(2).enumerate() {
            let low = u64::from(pair[0]) * 0x0001_0001;
            let high = u64::from(pair.get(1).copied().unwrap_or(0)) * 0x0001_0001;
            slots.set(value as u32, low | high << 32, 0)?;
        }
        let mut services: HashMap<_, ServiceKey, FloorService> =
            object.map_mut("FLOOR_SERVICES").context("FLOOR_SERVICES")?.try_into()?;
        for ipv6 in [false, true] {
            services.insert(key(ipv6, 6, IPIP), FloorService { keys: KEYS, slots: SLOTS, _padding: 0 }, 0)?;
        }
        Ok(())
    }

    /// Floors send to one family or the other: their backends are of the family asked for.
    fn fill_floor_backends(&mut self, ipv6: bool) -> Result<()> {
        let map = self.object.map_mut("FLOOR_BACKENDS").context("FLOOR_BACKENDS")?;
        let mut backends: Array<_, BackendEntry> = map.try_into()?;
        for index in 1..=BACKENDS {
            backends.set(u32::from(index), backend(IPIP, ipv6, index), 0)?;
        }
        Ok(())
    }

    /// Nanoseconds a packet, driver included.
    fn measure(&mut self, subject: &Subject, flows: u32) -> Result<f64> {
        let packet = packet(subject.packet);
        let mut template = [0; 80];
        template.copy_from_slice(&packet[..80]);
        self.fill_floor_backends(subject.packet.ipv6)?;
        let mut load: Array<_, Load> = self.object.map_mut("LOAD").context("LOAD")?.try_into()?;
        let source_offset = if subject.packet.ipv6 { 34 } else { 26 };
        // Coprime to the numbers of flows, so that all of them come by in no simple order.
        let stride = 618_031 % flows;
        load.set(0, Load { template, length: LENGTH as u32, source_offset, flows, stride, flow: 0, _padding: 0 }, 0)?;
        let descriptor = self.descriptor(subject.program)?;
        let mut under_test: ProgramArray<_> = self.object.map_mut("UNDER_TEST").context("UNDER_TEST")?.try_into()?;
        under_test.set(0, &descriptor, 0)?;
        let driver: &mut Xdp = self.object.program_mut("driver").context("driver")?.try_into()?;
        let run = |repeat| -> Result<f64> {
            let options = TestRunOptions { data_in: Some(&packet), repeat, ..TestRunOptions::default() };
            let result = driver.test_run(options)?;
            anyhow::ensure!(result.return_value != 0, "{}: aborted", subject.name);
            Ok(result.duration.as_secs_f64() * 1e9)
        };
        run(flows.min(REPEAT))?;
        run(REPEAT)
    }

    fn descriptor(&mut self, program: &str) -> Result<ProgramFd> {
        let program: &mut Xdp = match program {
            "balancer" => self.plane.xdp()?,
            floor => self.object.program_mut(floor).context("no such floor")?.try_into()?,
        };
        Ok(program.fd()?.try_clone()?)
    }
}

const KEYS: HashKeys = HashKeys { first: 0x1234_5678_9abc_def0, second: 0x0fed_cba9_8765_4321 };

fn owners(first: u16) -> Vec<u16> {
    (0..SLOTS).map(|slot| first + (slot % u32::from(BACKENDS)) as u16).collect()
}

fn vip(ipv6: bool) -> [u32; 4] {
    let words = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    if ipv6 { [words([0x20, 1, 0xd, 0xb8]), 0, 0, words([0, 0, 0, 1])] } else { [words([192, 0, 2, 1]), 0, 0, 0] }
}

fn key(ipv6: bool, protocol: u8, port: u16) -> ServiceKey {
    let family = if ipv6 { 6 } else { 4 };
    ServiceKey::new(vip(ipv6), port.to_be(), protocol, family)
}

fn backend(port: u16, ipv6: bool, index: u16) -> BackendEntry {
    let mode = match port {
        L2 => forward::L2,
        NAT => forward::NAT,
        _ if ipv6 => forward::IPIP6,
        _ => forward::IPIP4,
    };
    let mut address = vip(ipv6);
    address[if ipv6 { 3 } else { 0 }] ^= u32::from(index).to_be();
    BackendEntry {
        mac: [2, 0, 0, 0, 0, index as u8],
        source_mac: [2, 0, 0, 0, 1, 0],
        ifindex: 1,
        address,
        outer_source: vip(ipv6),
        outer_source_mask: 0xffff_0000,
        port: 8080u16.to_be(),
        mtu: 1500,
        forward: mode,
        overhead: encap::overhead(mode, 0),
        ..Default::default()
    }
}

/// A whole packet of [`LENGTH`] bytes.
fn packet(packet: Packet) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 99];
    let bytes = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    if packet.ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, (LENGTH - 54) as u8, packet.protocol, 64]);
        frame.extend([0xfd; 12]);
        frame.extend([10, 0, 0, 1]);
        frame.extend(bytes(vip(true)));
    } else {
        frame.extend([0x08, 0, 0x45, 0, 0, (LENGTH - 14) as u8, 0, 0, 0x40, 0, 64, packet.protocol, 0, 0, 10, 0, 0, 1]);
        frame.extend(&bytes(vip(false))[..4]);
    }
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(packet.port.to_be_bytes());
    if packet.protocol == 6 {
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, packet.flags, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        let length = (LENGTH - frame.len() + 4) as u16;
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.resize(LENGTH, 0);
    frame
}
