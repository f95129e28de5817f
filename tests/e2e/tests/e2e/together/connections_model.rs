//! Random sequences of changes, deaths, drains, silences, floods and restarts on the real controller and the loaded
//! program, against a model that knows one thing: who an established flow belongs to. As long as that backend lives, no
//! packet of the flow may go to another one.
//!
//! `CONNECTIONS_SEED` repeats a sequence, `CONNECTIONS_STEPS` makes it longer or shorter.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use harness::controller::Controller;
use harness::flood::mac;
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::running::Program;
use harness::server::Server;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const PORT: u16 = 8000;
const BACKENDS: usize = 5;
const FLOW_TABLE: u64 = 4096;
const QUIET: Duration = Duration::from_secs(4);
const STEPS: usize = 30;
/// New flows of a step.
const FLOWS: u32 = 150;
const REDIRECT: u32 = 4;
const TX: u32 = 3;

/// A flow that was let in.
#[derive(Debug, Clone, Copy)]
struct Flow {
    backend: usize,
    spoke: Instant,
    /// Says nothing for long.
    silent: bool,
}

/// What is configured.
#[derive(Debug, Clone)]
struct Wanted {
    weights: [Option<u32>; BACKENDS],
    seed: u32,
    table_size: u32,
}

impl Wanted {
    fn config(&self) -> String {
        let (seed, size, quiet) = (self.seed, self.table_size, QUIET.as_secs());
        let mut text = format!(
            "{{node}}\nwatch_config = false\nseed = {seed}\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\n\
             protocol = \"tcp\"\naddress = \"{VIP4}\"\nport = {PORT}\nforward = \"l2\"\ntable_size = {size}\n\
             [service.connections]\nquiet = \"{quiet}s\"\nflow_table = {FLOW_TABLE}\n\
             [service.health]\nkind = \"tcp\"\ninterval = \"200ms\"\ntimeout = \"190ms\"\nrise = 1\nfall = 3\n"
        );
        for (i, weight) in self.weights.iter().enumerate() {
            let Some(weight) = weight else { continue };
            let address = Lab::backend4(i);
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n");
        }
        text
    }
}

struct World<'a> {
    lab: &'a Lab,
    controller: Controller<'a>,
    program: Program,
    servers: Vec<Option<Server>>,
    wanted: Wanted,
    macs: HashMap<[u8; 6], usize>,
    flows: HashMap<u32, Flow>,
    next: u32,
    rng: StdRng,
    log: Vec<String>,
    /// Seed and table size change, too.
    remaps: bool,
    checked: u64,
    moved_allowed: u64,
}

impl<'a> World<'a> {
    fn new(lab: &'a Lab, seed: u64, remaps: bool) -> Result<Self> {
        let wanted = Wanted { weights: [Some(100); BACKENDS], seed: 1, table_size: 4099 };
        let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT).map(Some);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        let controller = Controller::start(&lab.balancer, &wanted.config())?;
        controller.wait_all_up()?;
        let macs = lab.backends.iter().enumerate().map(|(i, ns)| Ok((mac(ns)?, i))).collect::<Result<_>>()?;
        Ok(Self {
            lab,
            controller,
            program: Program::on(&lab.balancer, "eth0")?,
            servers,
            wanted,
            macs,
            flows: HashMap::new(),
            next: 0,
            rng: StdRng::seed_from_u64(seed),
            log: Vec::new(),
            remaps,
            checked: 0,
            moved_allowed: 0,
        })
    }

    /// The backend that a packet of flow `number` goes to.
    fn sent_to(&self, number: u32, opens: bool) -> Result<Option<usize>> {
        let step = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        let [_, b, c, d] = number.to_be_bytes();
        let step = step.ipv4([10, b, c, d], VIP4.octets(), 64).tcp(40_000, PORT, 1, 1000);
        let mut frame = Vec::new();
        if opens { step.syn().write(&mut frame, &[]) } else { step.ack(1).write(&mut frame, &[]) }?;
        let (answer, out) = self.program.run(&frame)?;
        if answer != REDIRECT && answer != TX {
            return Ok(None);
        }
        let to: [u8; 6] = out[..6].try_into()?;
        Ok(Some(*self.macs.get(&to).context("a packet went to nobody we know")?))
    }

    fn open_flows(&mut self) -> Result<()> {
        // Some end, too.
        let rng = &mut self.rng;
        self.flows.retain(|_, _| rng.random_ratio(7, 8));
        for _ in 0..FLOWS {
            self.next += 1;
            // With a dead server no connection opens.
            if let Some(backend) = self.sent_to(self.next, true)?
                && self.servers[backend].is_some()
            {
                let silent = self.rng.random_ratio(1, 5);
                self.flows.insert(self.next, Flow { backend, spoke: Instant::now(), silent });
            }
        }
        Ok(())
    }

    /// Every flow that talks does so, and is still where it was.
    fn talk(&mut self) -> Result<()> {
        let numbers: Vec<u32> = self.flows.keys().copied().collect();
        for number in numbers {
            let flow = self.flows[&number];
            let silence = flow.spoke.elapsed();
            // Some say nothing for less than `quiet`, and some for longer, which gives up their place.
            let patience = if number % 2 == 0 { 0.7 } else { 1.8 };
            if flow.silent && silence < QUIET.mul_f32(patience) && self.rng.random_ratio(19, 20) {
                continue;
            }
            let to = self.sent_to(number, false)?;
            self.checked += 1;
            let kept = to == Some(flow.backend);
            if !kept && silence < QUIET {
                let log = self.log.join("\n");
                let status = self.controller.status()?;
                anyhow::bail!(
                    "flow {number} of b{} went to {to:?} after {silence:?}\n{log}\n{:#?}\n{}",
                    flow.backend,
                    status.services[0],
                    self.controller.log()
                );
            }
            self.moved_allowed += u64::from(!kept);
            match to {
                // One that moved to a server that is dead, which nobody has noticed yet, ends there.
                Some(backend) if self.servers[backend].is_some() => {
                    self.flows.insert(number, Flow { backend, spoke: Instant::now(), ..flow });
                }
                _ => drop(self.flows.remove(&number)),
            }
        }
        Ok(())
    }

    /// Flows talk on for a while.
    fn pass(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.talk()?;
            std::thread::sleep(Duration::from_millis(60));
        }
        Ok(())
    }

    fn backend(&mut self) -> usize {
        self.rng.random_range(0..BACKENDS)
    }

    /// Whether another backend than `i` could take flows.
    fn can_spare(&self, i: usize) -> bool {
        let others = (0..BACKENDS).filter(|other| *other != i);
        others.filter(|other| self.wanted.weights[*other].is_some() && self.servers[*other].is_some()).count() >= 2
    }

    fn reload(&mut self) -> Result<bool> {
        self.controller.configure(&self.wanted.config())?;
        Ok(self.controller.cli(&["reload"])?.status.success())
    }

    fn step(&mut self) -> Result<()> {
        let i = self.backend();
        let (id, configured) = (format!("web/b{i}"), self.wanted.weights[i].is_some());
        let what = match self.rng.random_range(0..11) {
            0 | 1 if configured => {
                let weight = self.rng.random_range(1..1000);
                self.controller.done(&["weight", &id, &weight.to_string()])?;
                format!("weight of b{i}: {weight}")
            }
            2 if configured && self.can_spare(i) => {
                // Refused where it would leave the service nobody.
                let done = self.controller.cli(&["drain", &id])?.status.success();
                format!("drain b{i}: {done}")
            }
            3 if configured => {
                self.controller.done(&["undrain", &id])?;
                format!("undrain b{i}")
            }
            4 if configured && self.can_spare(i) => {
                self.wanted.weights[i] = None;
                let done = self.reload()?;
                format!("b{i} leaves: {done}")
            }
            5 => {
                self.wanted.weights[i] = Some(self.rng.random_range(1..1000));
                let done = self.reload()?;
                format!("b{i} comes, or weighs anew: {done}")
            }
            6 if self.can_spare(i) && self.servers[i].is_some() => {
                self.servers[i] = None;
                self.flows.retain(|_, flow| flow.backend != i);
                // Until it is noticed new flows go there, and die there.
                let until = Instant::now() + Duration::from_millis(1800);
                while Instant::now() < until {
                    self.talk()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                format!("b{i} dies")
            }
            7 => {
                if self.servers[i].is_none() {
                    self.servers[i] = Some(Server::start(&self.lab.backends[i], &format!("b{i}"), PORT)?);
                }
                format!("b{i} lives")
            }
            8 => {
                self.controller.end(Signal::SIGKILL)?;
                // Nobody is there to close anything; who talks stays.
                let pause = Duration::from_millis(self.rng.random_range(0..3000));
                self.pass(pause)?;
                self.controller.run()?;
                self.program = Program::on(&self.lab.balancer, "eth0")?;
                "killed and started".to_owned()
            }
            9 if self.remaps => {
                let before = self.wanted.clone();
                self.wanted.seed += 1;
                if self.rng.random_ratio(1, 2) {
                    self.wanted.table_size = if before.table_size == 4099 { 5003 } else { 4099 };
                }
                // Refused while flows of an earlier mapping are about.
                let done = self.reload()?;
                if !done {
                    self.wanted = before;
                    ensure!(self.reload()?, "{}", self.controller.log());
                }
                format!("another seed: {done}")
            }
            10 => {
                for number in 0..6000 {
                    self.sent_to(0x80_0000 | (self.next * 64 + number), true)?;
                }
                "a flood".to_owned()
            }
            _ => {
                let pause = Duration::from_millis(self.rng.random_range(0..2500));
                self.pass(pause)?;
                "nothing".to_owned()
            }
        };
        self.log.push(what);
        Ok(())
    }

    fn check_table(&self) -> Result<()> {
        let status = self.controller.status()?;
        let entries = status.services[0].flow_table_entries;
        ensure!(entries <= FLOW_TABLE, "{entries} flows are remembered");
        Ok(())
    }
}

#[test]
fn no_sequence_of_changes_of_backends_moves_an_established_flow() -> Result<()> {
    sequence(false)
}

#[test]
fn no_sequence_with_changes_of_the_mapping_moves_one_either() -> Result<()> {
    sequence(true)
}

/// Slots of a dead backend in the former mapping are nobody's: of flows that begin there only the flow table knows.
#[test]
fn flows_begun_since_a_backend_of_the_former_mapping_died_outlive_the_next() -> Result<()> {
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2; BACKENDS])?;
    let mut world = World::new(&lab, 1, true)?;
    world.open_flows()?;
    world.servers[0] = None;
    world.flows.retain(|_, flow| flow.backend != 0);
    world.controller.wait_for("b0 is down", QUIET, |status| status.services[0].backends[0].effective_weight == 0)?;
    world.wanted.seed += 1;
    ensure!(world.reload()?, "{}", world.controller.log());
    // Then what is left of b0's flows is given up.
    world.pass(QUIET + Duration::from_secs(1))?;
    ensure!(world.controller.status()?.services[0].former_mapping, "others still have flows of the former mapping");
    for _ in 0..4 {
        world.open_flows()?;
    }
    world.wanted.seed += 1;
    ensure!(world.reload()?, "{}", world.controller.log());
    world.talk()
}

fn sequence(remaps: bool) -> Result<()> {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = from_env("CONNECTIONS_SEED").unwrap_or_else(|| rand::rng().random());
    let steps = from_env("CONNECTIONS_STEPS").map_or(STEPS, |steps| steps as usize);
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2; BACKENDS])?;
    let mut world = World::new(&lab, seed, remaps)?;
    let run = |world: &mut World<'_>| -> Result<()> {
        for _ in 0..steps {
            world.open_flows()?;
            world.step()?;
            let pause = Duration::from_millis(world.rng.random_range(0..900));
            world.pass(pause)?;
            world.check_table()?;
        }
        Ok(())
    };
    run(&mut world).with_context(|| format!("with CONNECTIONS_SEED={seed}"))?;
    println!(
        "seed {seed}: {} packets checked, {} flows after long silence moved, {} flows at the end",
        world.checked,
        world.moved_allowed,
        world.flows.len()
    );
    ensure!(world.checked > steps as u64 * 1000, "{} packets say little", world.checked);
    Ok(())
}
