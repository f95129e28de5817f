//! What a large config costs the controller: 300 services with 100 backends each.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::maglev;
use balancer::model::{BackendName, TableSize, Weight};
use serde::Serialize;

use harness::client;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology};

pub const SERVICES: usize = 300;
pub const BACKENDS: usize = 100;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Milliseconds to build a table of 65,537 slots for 10, 100 and 1,000 backends of mixed weights.
    pub table_build_ms: [f64; 3],
    /// From the reload until every table is in the kernel.
    pub apply_seconds: f64,
    pub weight_change_ms: f64,
    pub scrape_seconds: f64,
    pub scrape_bytes: usize,
    pub resident_mib: f64,
    /// From the start of a controller until it answers, taking all of this over.
    pub restart_seconds: f64,
}

/// Measures everything; `progress` is told what is being done.
pub fn run(progress: impl Fn(&str)) -> Result<Report> {
    progress("tables");
    let table_build_ms = [10, 100, 1000].map(table_build);
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2])?;
    // All backends are behind one router.
    let router = Lab::backend4(0);
    lab.balancer.ip(&format!("route add 10.128.0.0/9 via {router}"))?;
    let mut controller = Controller::start(&lab.balancer, &config(0))?;
    progress("apply");
    controller.configure(&config(SERVICES))?;
    let start = Instant::now();
    controller.done(&["reload"])?;
    let last = format!("s{}", SERVICES - 1);
    loop {
        let status = controller.done(&["status", &last, "--json"])?;
        let status: balancer::control::api::Status = serde_json::from_str(&status)?;
        if status.services[0].backends.iter().all(|backend| backend.share.kernel.is_some_and(|share| share > 0.0)) {
            break;
        }
        ensure!(start.elapsed() < Duration::from_secs(120), "not applied:\n{}", controller.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let apply_seconds = start.elapsed().as_secs_f64();
    progress("weight, scrape");
    let mut changes = (0..9).map(|i| weight_change(&controller, i)).collect::<Result<Vec<f64>>>()?;
    changes.sort_by(f64::total_cmp);
    let (scrape_seconds, scrape_bytes) = scrape(&lab)?;
    let resident_mib = resident_mib(controller.pid().context("not running")?)?;
    progress("restart");
    controller.end(nix::sys::signal::Signal::SIGKILL)?;
    let start = Instant::now();
    controller.run()?;
    let restart_seconds = start.elapsed().as_secs_f64();
    let weight_change_ms = changes[changes.len() / 2];
    Ok(Report {
        table_build_ms,
        apply_seconds,
        weight_change_ms,
        scrape_seconds,
        scrape_bytes,
        resident_mib,
        restart_seconds,
    })
}

/// Median of some builds, in milliseconds.
fn table_build(backends: usize) -> f64 {
    let named = |i: usize| {
        let name: BackendName = format!("b{i}").parse().expect("a name");
        (name, Weight::new(50 + (i as u32 * 37) % 101).expect("a weight"))
    };
    let backends: Vec<_> = (0..backends).map(named).collect();
    let mut times: Vec<f64> = (0..9)
        .map(|seed| {
            let start = Instant::now();
            std::hint::black_box(maglev::build(TableSize::DEFAULT, seed, &backends));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn config(services: usize) -> String {
    let mut text = String::from("{node}\n[limits]\nbackends = 32767\n[[interface]]\nname = \"eth0\"\n");
    for service in 0..services {
        let (high, low) = (service / 250, service % 250 + 1);
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nprotocol = \"tcp\"\naddress = \"192.0.{high}.{low}\"\nport = 80\n\
             forward = \"ipip\"\n[service.health]\nkind = \"none\"\n"
        );
        for backend in 0..BACKENDS {
            let number = service * BACKENDS + backend;
            let address = format!("10.{}.{}.{}", 128 + number / 62_500, number / 250 % 250, number % 250 + 1);
            text += &format!("[[service.backend]]\nname = \"b{backend}\"\naddress = \"{address}\"\n");
        }
    }
    text
}

fn weight_change(controller: &Controller<'_>, i: usize) -> Result<f64> {
    let answer = controller.done(&["weight", "s7/b3", &(50 + i).to_string(), "--json"])?;
    let answer: balancer::control::api::Changed = serde_json::from_str(&answer)?;
    Ok(answer.seconds * 1e3)
}

fn scrape(lab: &Lab) -> Result<(f64, usize)> {
    let address = ([127, 0, 0, 1], 9405).into();
    let mut times = Vec::new();
    let mut length = 0;
    for _ in 0..3 {
        let start = Instant::now();
        let body =
            lab.balancer.block_on(|| async move { client::http(address, "GET", "/metrics", Vec::new()).await })?;
        times.push(start.elapsed().as_secs_f64());
        length = body?.len();
    }
    times.sort_by(f64::total_cmp);
    Ok((times[1], length))
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
