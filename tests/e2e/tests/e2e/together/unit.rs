//! The unit that is shipped does what the docs say of it, under a real systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::systemd;

const CONFIG: &str = r#"
[node]
name = "edge"
seed = "0x2545f4914f6cdd1d"

[[interface]]
name = "eth0"

[[service]]
name = "web"
protocol = "tcp"
address = "192.0.2.10"
port = 80
forward = "ipip"

[service.health]
kind = "none"

[[service.backend]]
name = "web-1"
address = "10.99.0.11"
weight = 90 # of web-1

[[service.backend]]
name = "web-2"
address = "10.99.0.12"
weight = 200 # of web-2

[[silence]]
id = "BAL016"
reason = "weights are changed here"

[[silence]]
id = "BAL019"
reason = "weights are changed here"
"#;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/balancer.service")
}

#[test]
fn the_unit_starts_reloads_restarts_and_stays_away_as_it_should() -> Result<()> {
    let booted = systemd::boot(&unit(), CONFIG, include_str!("unit/probe.sh"), Duration::from_secs(120))?;
    booted.passed(include_str!("unit/probe.sh"))?;
    let log = &booted.log;
    let reloads = log.matches("SIGHUP: reading the config again").count();
    ensure!(reloads == 1, "{reloads} reloads for what came during one start:\n{log}");
    Ok(())
}

#[test]
fn the_unit_exposes_little() -> Result<()> {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes"]).arg(unit());
    let output = analyze.output().context("running systemd-analyze, which the package systemd brings")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let level = said.lines().find_map(|line| line.split_once("exposure level for balancer.service: "));
    let level: f64 = level.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).context(said.clone())?;
    ensure!(level <= 3.0, "exposure {level}\n{said}");
    Ok(())
}
