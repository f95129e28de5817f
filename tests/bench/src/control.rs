//! What configs of several sizes cost the controller, and whether that grows with the config or with the change.

use std::fmt;
use std::fs;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use balancer::control::api::{Changed, Status};
use balancer::maglev;
use balancer::model::{BackendName, TableSize, Weight};
use harness::client;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology};
use harness::server::binary;
use nix::sys::signal::Signal;
use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

/// A config: so many services, each with so many backends and a table of so many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub services: usize,
    pub backends: usize,
    pub table_size: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.services, self.backends)
    }
}

impl Size {
    /// Many services have few backends each, and tables that fit them.
    const fn of(services: usize, backends: usize) -> Self {
        Self { services, backends, table_size: if services > 1_000 { 4_099 } else { 65_537 } }
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Such as `1000x32`.
    fn from_str(text: &str) -> Result<Self> {
        let (services, backends) = text.split_once('x').context("no size: SERVICESxBACKENDS, such as 100x32")?;
        Ok(Self::of(services.trim().parse()?, backends.trim().parse()?))
    }
}

pub const SMALL: Size = Size::of(1, 100);
pub const MIDDLE: Size = Size::of(100, 32);
pub const LARGE: Size = Size::of(1_000, 32);
/// A service takes three file descriptors, of which a process may have 20,000 where the limit is not raised.
pub const MANY: Size = Size::of(5_000, 5);

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    pub sizes: Vec<Size>,
    pub rounds: usize,
    pub idle: Duration,
}

impl Plan {
    pub fn whole() -> Self {
        Self { sizes: vec![SMALL, MIDDLE, LARGE, MANY], rounds: 9, idle: Duration::from_secs(30) }
    }

    /// Rough, and over in half a minute.
    pub fn short() -> Self {
        Self { sizes: vec![SMALL, MIDDLE], rounds: 5, idle: Duration::from_secs(3) }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds to build a table of 65,537 slots for 10, 100 and 1,000 backends of mixed weights.
    pub table_build_ms: [f64; 3],
    pub rows: Vec<Row>,
}

/// Of some rounds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

/// Durations are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub size: Size,
    /// From the start of `balancer reload` to its end, all of this being new.
    pub apply: f64,
    /// CPU time of the controller while nobody asks, in percent of one core.
    pub idle_percent: f64,
    /// From the command's coming to its answer.
    pub weight: Spread,
    /// From the start of `balancer weight` to its end.
    pub weight_command: Spread,
    /// From the start of `balancer reload` to its end, one weight being another.
    pub reload: Spread,
    pub scrape: Spread,
    pub scrape_bytes: usize,
    /// Of one service.
    pub page: Spread,
    /// From the start of `balancer status SERVICE` to its end.
    pub status: Spread,
    /// From the start of `balancer check` to its end.
    pub check: Spread,
    /// From the start of a controller until it answers, taking all of this over.
    pub start: Spread,
    pub resident_mib: f64,
}

/// Measures everything; `progress` is told what is being done.
pub fn run(plan: &Plan, progress: impl Fn(&str)) -> Result<Report> {
    progress("tables");
    let table_build_ms = [10, 100, 1000].map(table_build);
    let rows = plan.sizes.iter().map(|size| {
        progress(&format!("controller, {size}"));
        measure(*size, plan, &progress)
    });
    Ok(Report { table_build_ms, rows: rows.collect::<Result<_>>()? })
}

fn measure(size: Size, plan: &Plan, progress: &impl Fn(&str)) -> Result<Row> {
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2])?;
    // All backends are behind one router.
    let router = Lab::backend4(0);
    lab.balancer.ip(&format!("route add 10.128.0.0/9 via {router}"))?;
    let mut controller = Controller::start(&lab.balancer, &config(Size { services: 0, ..size }, 0))?;
    controller.configure(&config(size, 100))?;
    let apply = reload(&controller)?;
    let last = format!("s{}", size.services - 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status: Status = controller.json(&["status", &last])?;
        if status.services[0].backends.iter().all(|backend| backend.share.kernel.is_some_and(|share| share > 0.0)) {
            break;
        }
        ensure!(Instant::now() < deadline, "not applied:\n{}", controller.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut idle_percent = 0.0;
    if !plan.idle.is_zero() {
        progress("idle");
        // What a change leaves to be done is no idling.
        std::thread::sleep(Duration::from_secs(2));
        idle_percent = idle(&controller, plan.idle)?;
    }
    progress("scrape");
    let (scrape, scrape_bytes) = http(&lab, "/metrics", plan.rounds)?;
    let (page, _) = http(&lab, "/metrics?service=s0", plan.rounds)?;
    let status = (0..plan.rounds).map(|_| {
        let start = Instant::now();
        controller.done(&["status", &last])?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    });
    let status = Spread::of(status.collect::<Result<_>>()?);
    progress("weight");
    let service = format!("s{}/b1", 7.min(size.services - 1));
    let (mut weights, mut commands) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let start = Instant::now();
        let answer: Changed = controller.json(&["weight", &service, &(50 + round).to_string()])?;
        commands.push(start.elapsed().as_secs_f64() * 1e3);
        weights.push(answer.seconds * 1e3);
    }
    progress("reload");
    let mut reloads = Vec::new();
    for round in 0..plan.rounds {
        controller.configure(&config(size, 101 + round))?;
        reloads.push(reload(&controller)?);
    }
    let resident_mib = resident_mib(controller.pid().context("not running")?)?;
    progress("check");
    let check = (0..plan.rounds).map(|_| check(&controller)).collect::<Result<_>>()?;
    progress("start");
    let starts = (0..plan.rounds.min(5)).map(|_| {
        controller.end(Signal::SIGKILL)?;
        let start = Instant::now();
        controller.run()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    });
    let start = Spread::of(starts.collect::<Result<_>>()?);
    Ok(Row {
        size,
        apply,
        idle_percent,
        weight: Spread::of(weights),
        weight_command: Spread::of(commands),
        reload: Spread::of(reloads),
        scrape,
        scrape_bytes,
        page,
        status,
        check: Spread::of(check),
        start,
        resident_mib,
    })
}

/// Median of some builds, in milliseconds.
fn table_build(backends: usize) -> f64 {
    let named = |i: usize| {
        let name: BackendName = format!("b{i}").parse().expect("a name");
        (name, Weight::new(50 + (i as u32 * 37) % 101).expect("a weight"))
    };
    let backends: Vec<_> = (0..backends).map(named).collect();
    let build = |seed| {
        let start = Instant::now();
        std::hint::black_box(maglev::build(TableSize::DEFAULT, seed, &backends));
        start.elapsed().as_secs_f64() * 1e3
    };
    Spread::of((0..9).map(build).collect()).median
}

/// One backend has another weight than the others, which are 100.
fn config(size: Size, weight: usize) -> String {
    let mut text =
        String::from("{node}\n[limits]\nbackends = 32767\nservices = 10000\n[[interface]]\nname = \"eth0\"\n");
    for service in 0..size.services {
        let (high, low) = (service / 250, service % 250 + 1);
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nprotocol = \"tcp\"\naddress = \"192.{}.{}.{low}\"\nport = 80\n\
             forward = \"ipip\"\ntable_size = {}\n[service.health]\nkind = \"none\"\n",
            high / 250,
            high % 250,
            size.table_size
        );
        for backend in 0..size.backends {
            let number = service * size.backends + backend;
            let address = format!("10.{}.{}.{}", 128 + number / 62_500, number / 250 % 250, number % 250 + 1);
            text += &format!("[[service.backend]]\nname = \"b{backend}\"\naddress = \"{address}\"\n");
            if (service, backend) == (size.services / 2, 0) {
                text += &format!("weight = {weight}\n");
            }
        }
    }
    text
}

/// Milliseconds of a reload.
fn reload(controller: &Controller<'_>) -> Result<f64> {
    let start = Instant::now();
    controller.done(&["reload"])?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn check(controller: &Controller<'_>) -> Result<f64> {
    let start = Instant::now();
    // What it finds does not matter here.
    Command::new(binary("balancer")?).arg("check").arg(controller.config()).output()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn http(lab: &Lab, path: &str, rounds: usize) -> Result<(Spread, usize)> {
    let address = ([127, 0, 0, 1], 9405).into();
    let (mut times, mut length) = (Vec::new(), 0);
    for _ in 0..rounds {
        let start = Instant::now();
        let body = lab.balancer.block_on(|| async move { client::http(address, "GET", path, Vec::new()).await })?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        length = body?.len();
    }
    Ok((Spread::of(times), length))
}

/// Percent of a core that the process takes.
fn idle(controller: &Controller<'_>, time: Duration) -> Result<f64> {
    let pid = controller.pid().context("not running")?;
    let (before, start) = (ticks(pid)?, Instant::now());
    std::thread::sleep(time);
    let a_second = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")? as f64;
    Ok((ticks(pid)? - before) / a_second / start.elapsed().as_secs_f64() * 100.0)
}

/// CPU time of a process, of user and kernel.
fn ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields = fields.split_whitespace().skip(11).take(2);
    fields.map(|field| Ok(field.parse::<f64>()?)).sum()
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
