//! The shipped unit under a real systemd, which is PID 1 of namespaces of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::server::binary;

/// What a boot left behind.
#[derive(Debug)]
pub struct Booted {
    /// By the probe.
    pub said: String,
    /// By the controllers of the unit.
    pub log: String,
}

/// Boots systemd with the unit and the config, runs `probe` (bash) in there, and waits for its end, for so long at most.
///
/// # Errors
/// Where systemd is not installed, or does not come so far as to start the probe; the error says what it said.
pub fn boot(unit: &Path, config: &str, probe: &str, limit: Duration) -> Result<Booted> {
    ensure!(
        Path::new("/lib/systemd/systemd").exists(),
        "systemd is not installed, so the unit can't be tested; `apt-get install systemd` brings it, and so does `cargo \
         xtask test`"
    );
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    fs::copy(binary("balancer")?, at("balancer"))?;
    fs::copy(unit, at("balancer.service")).with_context(|| format!("copying {}", unit.display()))?;
    fs::write(at("balancer.toml"), config)?;
    fs::write(at("probe"), probe)?;
    fs::write(at("inside"), include_str!("systemd/inside.sh"))?;
    let console = File::create(at("console"))?;
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid", "--mount", "--cgroup", "--net", "--uts", "--ipc", "--kill-child=KILL", "bash"]);
    // A session of its own: systemd takes the terminal of the one that it is in.
    command.arg(at("inside")).arg(directory.path()).stdin(Stdio::null()).process_group(0);
    command.stdout(console.try_clone()?).stderr(console);
    let mut child = command.spawn().context("running unshare")?;
    let ended = end_within(&mut child, limit);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap_or_default();
    let booted = Booted { said: read("said"), log: read("log") };
    ensure!(at("said").exists(), "systemd did not start the probe; it said:\n{}", read("console"));
    ended.with_context(|| format!("the probe said\n{}\nand the controllers\n{}", booted.said, booted.log))?;
    Ok(booted)
}

fn end_within(child: &mut Child, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            // Its child, PID 1 of the namespaces, is killed with it, and everything in there with that.
            child.kill()?;
            child.wait()?;
            anyhow::bail!("systemd did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
