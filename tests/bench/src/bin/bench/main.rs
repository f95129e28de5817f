//! `cargo xtask bench`.

mod chart;
mod document;

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer_bench::{control, live, packets, path};
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Benchmarks of the packet path, of the controller, and of the whole path beside nftables, HAProxy and nginx
#[derive(Parser)]
struct Cli {
    /// What to measure; default: everything
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Of the packet path only what has one of these words in its name; no other part
    #[arg(long, value_name = "WORD", value_delimiter = ',', conflicts_with = "parts")]
    only: Vec<String>,
    /// Short and rough: shows that everything runs
    #[arg(long, alias = "short")]
    quick: bool,
    /// Of the control part: these configs, such as 100x32 for 100 services with 32 backends each
    #[arg(long, value_name = "SERVICESxBACKENDS", value_delimiter = ',', conflicts_with = "docs")]
    size: Vec<control::Size>,
    /// Write tables, charts and JSON into docs, of the parts that are measured; everything to compare with must be there
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    docs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a packet, program alone
    Packets,
    /// Configs of several sizes: apply, change, scrape, idle, start
    Control,
    /// Packets a second through real interfaces
    Live,
    /// Connections and requests, client to server and back
    Path,
}

#[derive(Serialize, Default)]
struct Report {
    /// The machine's processors, and its kernel.
    machine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<packets::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<control::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Vec<live::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<path::Report>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.docs && (cli.parts.is_empty() || cli.parts.contains(&Part::Path)) {
        let missing = path::missing();
        ensure!(
            missing.is_empty(),
            "{}; apt-get install haproxy nginx libnginx-mod-stream nftables",
            missing.join(", ")
        );
    }
    let report = measure(&cli, |what| eprintln!("bench: {what}"))?;
    if cli.docs {
        document::write(&report)?;
    }
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", document::text(&report));
    }
    Ok(())
}

fn measure(cli: &Cli, progress: impl Fn(&str) + Copy) -> Result<Report> {
    let wanted = |part| {
        if cli.only.is_empty() { cli.parts.is_empty() || cli.parts.contains(&part) } else { part == Part::Packets }
    };
    let (rounds, milliseconds) = if cli.quick { (1, 200) } else { (7, 1000) };
    let mut report = Report { machine: machine(), ..Report::default() };
    if wanted(Part::Packets) {
        report.packets = Some(packets::run(&cli.only, progress)?);
    }
    if wanted(Part::Control) {
        let mut plan = if cli.quick { control::Plan::short() } else { control::Plan::whole() };
        if !cli.size.is_empty() {
            plan.sizes.clone_from(&cli.size);
        }
        report.control = Some(control::run(&plan, progress)?);
    }
    if wanted(Part::Live) {
        report.live = Some(live::run(rounds, Duration::from_millis(milliseconds / 4), progress)?);
    }
    if wanted(Part::Path) {
        let plan = path::Plan { rounds, each: Duration::from_millis(milliseconds) };
        report.path = Some(path::run(plan, progress)?);
    }
    Ok(report)
}

fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let names: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name))
        .collect();
    let release = read("/proc/sys/kernel/osrelease");
    format!("{} × {}, Linux {}", names.len(), names.first().unwrap_or(&"unknown processor"), release.trim())
}
