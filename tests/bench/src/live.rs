//! Packets a second of one CPU through real interfaces: frames that the kernel takes from BPF_PROG_TEST_RUN
//! (BPF_F_TEST_XDP_LIVE_FRAMES) as if a driver had received them, and that leave through a veth for a sink that counts.
//!
//! The driver (`tests/ebpf/src/live.rs`), the way through the veth and the sink are in every figure; what the subject
//! costs is its distance to the program that does nothing but drop or send.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunAttrs, TestRunOptions, Xdp, loaded_programs};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::median;
use super::wire::{BACKENDS, Wire, dnat};
use harness::controller::Controller;
use harness::lab::VIP4;
use harness::programs;

/// Length of every frame, and how many flows they are of.
const LENGTH: usize = 100;
const FLOWS: u32 = 10_000;
/// Frames the kernel handles between two looks at its soft interrupts.
const BATCH: u32 = 64;
const TEMPLATE: usize = 56;

/// As in the driver.
#[repr(C)]
#[derive(Clone, Copy)]
struct LiveLoad {
    template: [u8; TEMPLATE],
    ip_sum: u32,
    tcp_sum: u32,
    flows: u32,
    stride: u32,
    flow: u32,
    ifindex: u32,
}
// SAFETY: integers only, no implicit padding.
unsafe impl aya::Pod for LiveLoad {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Drop,
    /// Out by the interface that it came in on.
    Return,
    /// Out by another.
    Forward,
}

/// One line of the result: medians over rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub work: Work,
    pub packets_per_second: f64,
    pub nanoseconds: f64,
    /// Nanoseconds over those of the XDP program that does nothing else.
    pub added: f64,
    /// Packets that did not reach the sink, of those that should: 0 to 1.
    pub lost: f64,
}

/// The networks that subjects are in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Balancer,
    Plain,
    Dnat,
    Ingress,
    Prerouting,
}

struct Subject {
    name: &'static str,
    work: Work,
    place: Place,
    /// One of the tests' programs; the product's own is "balancer".
    program: &'static str,
    port: u16,
    flags: u8,
}

const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
const RETURN: u16 = 1000;
const L2: u16 = 1001;
const IPIP: u16 = 1002;
const NAT: u16 = 1003;
const DENIED: u16 = 1004;

const fn subject(name: &'static str, work: Work, place: Place, program: &'static str, port: u16) -> Subject {
    Subject { name, work, place, program, port, flags: ACK }
}

/// The first of each kind of work is what the others are compared with.
const SUBJECTS: &[Subject] = &[
    subject("XDP program that only drops", Work::Drop, Place::Plain, "live_drop", L2),
    Subject { flags: SYN, ..subject("balancer, deny list", Work::Drop, Place::Balancer, "balancer", DENIED) },
    Subject { flags: SYN, ..subject("nftables, set, ingress", Work::Drop, Place::Ingress, "pass", L2) },
    Subject { flags: SYN, ..subject("nftables, set, prerouting", Work::Drop, Place::Prerouting, "pass", L2) },
    subject("XDP program that only returns", Work::Return, Place::Plain, "live_tx", L2),
    subject("balancer, ipip, one-armed", Work::Return, Place::Balancer, "balancer", RETURN),
    subject("XDP program that only redirects", Work::Forward, Place::Plain, "live_redirect", L2),
    subject("balancer, l2", Work::Forward, Place::Balancer, "balancer", L2),
    subject("balancer, ipip", Work::Forward, Place::Balancer, "balancer", IPIP),
    subject("balancer, nat", Work::Forward, Place::Balancer, "balancer", NAT),
    subject("kernel, routing only", Work::Forward, Place::Plain, "pass", L2),
    subject("nftables, DNAT by jhash", Work::Forward, Place::Dnat, "pass", L2),
];

/// Measures everything; `progress` is told what is being done.
pub fn run(rounds: usize, each: Duration, progress: impl Fn(&str)) -> Result<Vec<Row>> {
    progress("frames: networks");
    let places = [
        (Place::Balancer, Wire::new()?),
        (Place::Plain, Wire::new()?.with_entry()?),
        (Place::Dnat, Wire::new()?.with_rules(&dnat(L2, &[11, 12, 13].map(|host| Ipv4Addr::new(10, 77, 0, host))))?),
        (Place::Ingress, Wire::new()?.with_rules(&denied("netdev", "ingress device \"in0\" priority filter"))?),
        (Place::Prerouting, Wire::new()?.with_rules(&denied("ip", "prerouting priority raw"))?),
    ];
    places.iter().try_for_each(|(_, wire)| wire.meet())?;
    let wire_of =
        |place| places.iter().find(|(other, _)| *other == place).map(|(_, wire)| wire).context("no such place");
    let wire = wire_of(Place::Balancer)?;
    let controller = Controller::start(&wire.balancer, &config())?;
    controller.wait_all_up()?;
    let mut bench = Bench::new(wire.program()?)?;
    let mut samples: Vec<Vec<(f64, f64)>> = vec![Vec::new(); SUBJECTS.len()];
    for round in 0..rounds {
        progress(&format!("frames: round {} of {rounds}", round + 1));
        for (subject, samples) in SUBJECTS.iter().zip(&mut samples) {
            samples.push(bench.measure(subject, wire_of(subject.place)?, each).with_context(|| subject.name)?);
        }
    }
    Ok(rows(&samples))
}

fn rows(samples: &[Vec<(f64, f64)>]) -> Vec<Row> {
    let ns: Vec<f64> = samples.iter().map(|rounds| median(rounds.iter().map(|sample| sample.0).collect())).collect();
    let row = |(at, subject): (usize, &Subject)| {
        let floor = SUBJECTS.iter().position(|other| other.work == subject.work).unwrap_or(at);
        Row {
            name: subject.name,
            work: subject.work,
            packets_per_second: 1e9 / ns[at],
            nanoseconds: ns[at],
            added: ns[at] - ns[floor],
            lost: median(samples[at].iter().map(|sample| sample.1).collect()),
        }
    };
    SUBJECTS.iter().enumerate().map(row).collect()
}

fn config() -> String {
    let mut text = String::from("{node}\n[[interface]]\nname = \"in0\"\n[[interface]]\nname = \"out0\"\n");
    for (port, forward, net, more) in [
        (RETURN, "ipip", 76, ""),
        (L2, "l2", 77, ""),
        (IPIP, "ipip", 77, ""),
        (NAT, "nat", 77, ""),
        (DENIED, "l2", 77, "deny = [\"10.0.0.0/12\", \"198.51.100.0/24\"]\n"),
    ] {
        text += &format!(
            "[[service]]\nname = \"s{port}\"\nprotocol = \"tcp\"\naddress = \"{VIP4}\"\nport = {port}\n\
             forward = \"{forward}\"\n{more}[service.health]\nkind = \"none\"\n"
        );
        for backend in 0..BACKENDS {
            let address = format!("10.{net}.0.{}", 11 + backend);
            text += &format!("[[service.backend]]\nname = \"b{backend}\"\naddress = \"{address}\"\n");
        }
    }
    text
}

/// Drops packets of two prefixes at this hook.
fn denied(family: &str, hook: &str) -> String {
    format!(
        "add table {family} guard\nadd set {family} guard denied {{ type ipv4_addr; flags interval; \
         elements = {{ 10.0.0.0/12, 198.51.100.0/24 }}; }}\n\
         add chain {family} guard in {{ type filter hook {hook}; }}\nadd rule {family} guard in ip saddr @denied drop\n"
    )
}

struct Bench {
    object: Ebpf,
    product: ProgramFd,
}

impl Bench {
    /// `product` is the number of the loaded program.
    fn new(product: u32) -> Result<Self> {
        let mut object = programs::object()?;
        for name in ["live", "live_drop", "live_tx", "live_redirect", "pass"] {
            programs::load(&mut object, name)?;
        }
        let mut loaded = loaded_programs().filter_map(Result::ok);
        let product = loaded.find(|program| program.id() == product).context("the balancer's program is gone")?;
        Ok(Self { object, product: product.fd()? })
    }

    /// Nanoseconds a packet, and the part that was lost.
    fn measure(&mut self, subject: &Subject, wire: &Wire, each: Duration) -> Result<(f64, f64)> {
        let frame = frame(subject, wire.mac()?);
        let mut template = [0; TEMPLATE];
        template.copy_from_slice(&frame[..TEMPLATE]);
        let load = LiveLoad {
            template,
            ip_sum: sum(&frame[14..34]),
            tcp_sum: sum(&frame[30..]) + u32::from(6u16.to_be()) + u32::from((LENGTH as u16 - 34).to_be()),
            flows: FLOWS,
            stride: 6_781,
            flow: 0,
            ifindex: wire.ifindex("out0")?,
        };
        let mut loads: Array<_, LiveLoad> = self.object.map_mut("LIVE_LOAD").context("LIVE_LOAD")?.try_into()?;
        loads.set(0, load, 0)?;
        let descriptor = match subject.program {
            "balancer" => self.product.try_clone()?,
            name => {
                let program: &mut Xdp = self.object.program_mut(name).context("no such program")?.try_into()?;
                program.fd()?.try_clone()?
            }
        };
        let mut target: ProgramArray<_> = self.object.map_mut("LIVE_TARGET").context("LIVE_TARGET")?.try_into()?;
        target.set(0, &descriptor, 0)?;
        // Every flow once: what keeps state has it now; and a first idea of how long a packet takes.
        let first = self.send(wire, &frame, FLOWS)?;
        let count = (each.as_nanos() as f64 / first).clamp(10_000.0, 20_000_000.0) as u32;
        let before = wire.arrived()?;
        let ns = self.send(wire, &frame, count)?;
        std::thread::sleep(Duration::from_millis(5));
        let arrived = wire.arrived()? - before;
        if subject.work == Work::Drop {
            ensure!(arrived == 0, "{arrived} packets were not dropped");
            return Ok((ns, 0.0));
        }
        ensure!(arrived > u64::from(count) / 2, "only {arrived} of {count} packets arrived");
        let part = arrived.min(u64::from(count)) as f64 / f64::from(count);
        Ok((ns / part, 1.0 - part))
    }

    /// Sends `count` frames in by `in0`, on one CPU; nanoseconds a frame.
    fn send(&mut self, wire: &Wire, frame: &[u8], count: u32) -> Result<f64> {
        let ifindex = wire.ifindex("in0")?;
        let driver: &mut Xdp = self.object.program_mut("live").context("live")?.try_into()?;
        wire.balancer.enter(move || -> Result<f64> {
            pin()?;
            // linux/bpf.h: `struct xdp_md`; the interface is the fourth of its words, where the data ends the second.
            let mut context = [0u8; 24];
            context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
            let options = TestRunOptions {
                data_in: Some(frame),
                ctx_in: Some(&context),
                repeat: count,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            };
            let start = Instant::now();
            driver.test_run(options).context("sending frames")?;
            Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
        })?
    }
}

/// Keeps this thread on the last CPU.
fn pin() -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    let mut set = CpuSet::new();
    set.set(cpus - 1)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// A frame whose source address and checksums are 0.
fn frame(subject: &Subject, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 99]);
    frame.extend([0x08, 0, 0x45, 0, 0, (LENGTH - 14) as u8, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0]);
    frame.extend(VIP4.octets());
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(subject.port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, subject.flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(LENGTH, 0);
    frame
}

/// Of 16-bit words as they lie in memory.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]]))).sum()
}
