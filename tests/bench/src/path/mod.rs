//! The whole path, client to server and back, beside what a user would take instead: in one run, each in a network of the
//! same shape, in turn within each round.

pub mod contender;
pub mod cpu;
pub mod load;
pub mod network;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use self::contender::{ALL, Contender, Middle};
use self::load::{Kind, Load, Outcome};
use self::network::{BACKENDS, Network};
use super::median;

/// Requests that are under way at a time, each on a connection of its own.
pub const CONNECTIONS: usize = 64;
/// Requests a second of the load that nobody is saturated by.
pub const PACE: u32 = 4000;
const LOADS: [Kind; 3] = [Kind::New, Kind::Kept, Kind::Paced(PACE)];

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    /// Of one load on one contender.
    pub each: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Programs that were compared, with versions.
    pub versions: Vec<String>,
    /// What is not installed, or can't be run.
    pub skipped: Vec<String>,
}

/// Medians over rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// A connection for each request, 64 at a time.
    pub new: Figures,
    /// 64 connections that stay, one request on each at a time.
    pub kept: Figures,
    /// 4,000 requests a second on connections that stay.
    pub paced: Figures,
}

#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Requests a second.
    pub rate: f64,
    /// Latency in microseconds; of `new` from the connection's beginning to the end of the answer.
    pub median_us: f64,
    pub p99_us: f64,
    /// Processor time of the whole machine for a request, microseconds.
    pub cpu_us: f64,
    /// The same less that of the direct connection: what stands in the middle costs.
    pub added_cpu_us: f64,
    /// Processor time of the processes in the middle for a request.
    pub process_cpu_us: f64,
    /// The load's own, and the servers'.
    pub client_cpu_us: f64,
    pub server_cpu_us: f64,
    /// Of all rounds.
    pub failed: u64,
    /// Of answers, that of the server with the least; a third is even.
    pub least_share: f64,
}

/// One measurement.
struct Sample {
    outcome: Outcome,
    cpu: f64,
    process: f64,
    servers: f64,
}

struct Stand<'a> {
    contender: Contender,
    network: &'a Network,
    middle: Middle<'a>,
}

/// What can't be compared with here, and why.
pub fn missing() -> Vec<String> {
    let line = |contender: &Contender| {
        let (program, _) = contender.program().filter(|_| !contender.is_there())?;
        Some(format!("{}: {program} is not installed", contender.name()))
    };
    ALL.iter().filter_map(line).collect()
}

/// Measures everything; `progress` is told what is being done.
pub fn run(plan: Plan, progress: impl Fn(&str)) -> Result<Report> {
    let contenders: Vec<Contender> = ALL.into_iter().filter(|contender| contender.is_there()).collect();
    let versions = contenders.iter().filter_map(|contender| contender.version()).collect();
    let skipped = missing();
    skipped.iter().for_each(|line| progress(&format!("path: skipped: {line}")));
    progress("path: networks");
    let networks = contenders.iter().map(|contender| contender.network()).collect::<Result<Vec<_>>>()?;
    let mut stands = Vec::new();
    for (contender, network) in contenders.iter().zip(&networks) {
        let middle = contender.start(network).with_context(|| contender.name())?;
        let stand = Stand { contender: *contender, network, middle };
        // Neighbours find each other, and it works at all.
        stand.measure(Kind::New, Duration::from_millis(100)).with_context(|| contender.name())?;
        stands.push(stand);
    }
    let mut samples: Vec<[Vec<Sample>; 3]> = stands.iter().map(|_| [const { Vec::new() }; 3]).collect();
    for round in 0..plan.rounds {
        progress(&format!("path: round {} of {}", round + 1, plan.rounds));
        for (at, kind) in LOADS.into_iter().enumerate() {
            for (stand, samples) in stands.iter().zip(&mut samples) {
                let sample = stand.measure(kind, plan.each);
                samples[at].push(sample.with_context(|| format!("{}, {kind:?}", stand.contender.name()))?);
            }
        }
    }
    let rows = stands.iter().zip(&samples).map(|(stand, loads)| {
        let [new, kept, paced] = [0, 1, 2].map(|at| figures(&loads[at], &samples[0][at]));
        Row { name: stand.contender.name(), new, kept, paced }
    });
    Ok(Report { rows: rows.collect(), versions, skipped })
}

impl Stand<'_> {
    fn measure(&self, kind: Kind, each: Duration) -> Result<Sample> {
        let targets = self.contender.targets();
        let load = Load { kind, connections: CONNECTIONS, targets: &targets, duration: each };
        let servers: Vec<u32> = self.network.servers.iter().map(|server| server.pid()).collect();
        let middle = self.middle.pids();
        let (process, served) = (cpu::of_processes(&middle), cpu::of_processes(&servers));
        let machine = cpu::Machine::now()?;
        let outcome = self.network.client.enter(|| load.run())??;
        let sample = Sample {
            cpu: machine.spent_since()?,
            process: cpu::of_processes(&middle) - process,
            servers: cpu::of_processes(&servers) - served,
            outcome,
        };
        let answered = sample.outcome.by_server[..BACKENDS].iter().filter(|answers| **answers > 0).count();
        ensure!(answered == BACKENDS, "only {answered} of {BACKENDS} servers were asked");
        Ok(sample)
    }
}

fn figures(samples: &[Sample], direct: &[Sample]) -> Figures {
    let of = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    // Microseconds for a request.
    let each = |samples: &[Sample], seconds: fn(&Sample) -> f64| {
        median(samples.iter().map(|sample| seconds(sample) * 1e6 / sample.outcome.requests as f64).collect())
    };
    let cpu = |samples: &[Sample]| each(samples, |sample| sample.cpu);
    Figures {
        rate: of(samples, |sample| sample.outcome.requests as f64 / sample.outcome.seconds),
        median_us: of(samples, |sample| sample.outcome.median_us),
        p99_us: of(samples, |sample| sample.outcome.p99_us),
        cpu_us: cpu(samples),
        added_cpu_us: cpu(samples) - cpu(direct),
        process_cpu_us: each(samples, |sample| sample.process),
        client_cpu_us: each(samples, |sample| sample.outcome.cpu_seconds),
        server_cpu_us: each(samples, |sample| sample.servers),
        failed: samples.iter().map(|sample| sample.outcome.failed).sum(),
        least_share: of(samples, |sample| {
            let servers = &sample.outcome.by_server[..BACKENDS];
            *servers.iter().min().unwrap_or(&0) as f64 / servers.iter().sum::<u64>().max(1) as f64
        }),
    }
}
