//! `cargo xtask demo` shows what it promises, and leaves nothing behind, also when it is interrupted.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::binomial::{fits, within_band};
use harness::server::binary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Namespaces and pins whose names begin as those of labs do, less those that were there before.
fn left_behind(before: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for directory in ["/run/netns", "/sys/fs/bpf"] {
        let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
        found.extend(
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with("bl-")),
        );
    }
    found.retain(|name| !before.contains(name));
    Ok(found)
}

#[test]
fn the_document_has_every_step_and_shares_as_configured() -> Result<()> {
    within_band(document_is_right)
}

fn document_is_right() -> Result<()> {
    let before = left_behind(&[])?;
    let output = Command::new(binary("demo")?).arg("--json").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).context("one JSON document and nothing else")?;
    let steps = document["steps"].as_array().context("steps")?;
    let names: Vec<_> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
    ensure!(names == ["start", "start", "weight", "weight", "failure", "failure"], "{names:?}");
    for step in steps {
        ensure!(step["failed"] == 0 && step["requests"].as_u64() >= Some(3000), "{step}");
        for backend in step["backends"].as_array().context("backends")? {
            let share = backend["configured"].as_f64().context("configured")?;
            let requests = backend["requests"].as_u64().context("requests")?;
            ensure!(fits(requests, 3000, share), "{}: {backend}", step["name"]);
            ensure!(backend["observed"].is_f64() && backend["weight"].is_u64() && backend["name"].is_string());
        }
    }
    ensure!(left_behind(&before)?.is_empty(), "{:?}", left_behind(&before)?);
    Ok(())
}

#[test]
fn an_interrupted_demo_cleans_up() -> Result<()> {
    let before = left_behind(&[])?;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut demo = Command::new(binary("demo")?).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        // As soon as a balancer has pinned something there is everything to be cleaned up.
        while !left_behind(&before)?.iter().any(|name| name.contains("pins")) {
            ensure!(Instant::now() < deadline, "the demo makes nothing");
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(demo.id() as i32), signal)?;
        ensure!(demo.wait()?.code() == Some(130), "{signal}");
        ensure!(left_behind(&before)?.is_empty(), "{signal}: {:?}", left_behind(&before)?);
    }
    Ok(())
}
