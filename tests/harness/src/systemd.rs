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

/// What a machine has when systemd starts in it.
pub struct Machine<'a> {
    /// Name in the directory `$given`, and what is copied there.
    pub files: &'a [(&'a str, &'a Path)],
    /// Bash, run before systemd.
    pub prepare: &'a str,
    /// Bash, run as the only job.
    pub probe: &'a str,
}

/// Boots systemd with the unit and the config, runs `probe` (bash) in there, and waits for its end, for so long at most.
///
/// # Errors
/// Where systemd is not installed, or does not come so far as to start the probe; the error says what it said.
pub fn boot(unit: &Path, config: &str, probe: &str, limit: Duration) -> Result<Booted> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), config)?;
    let balancer = binary("balancer")?;
    let files = [("balancer", balancer.as_path()), ("balancer.service", unit), ("balancer.toml", file.path())];
    Machine { files: &files, prepare: include_str!("systemd/unit.sh"), probe }.boot(limit)
}

impl Machine<'_> {
    /// Boots it, and waits for the end of the probe, for so long at most.
    ///
    /// # Errors
    /// As [`boot`].
    pub fn boot(&self, limit: Duration) -> Result<Booted> {
        ensure!(
            Path::new("/lib/systemd/systemd").exists(),
            "systemd is not installed, so the unit can't be tested; `apt-get install systemd` brings it, and so does `cargo \
             xtask test`"
        );
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        for (name, from) in self.files {
            fs::copy(from, at(name)).with_context(|| format!("copying {}", from.display()))?;
        }
        fs::write(at("prepare"), self.prepare)?;
        fs::write(at("probe"), self.probe)?;
        fs::write(at("common"), include_str!("systemd/common.sh"))?;
        fs::write(at("inside"), include_str!("systemd/inside.sh"))?;
        let console = File::create(at("console"))?;
        let mut command = Command::new("unshare");
        command.args([
            "--fork",
            "--pid",
            "--mount",
            "--cgroup",
            "--net",
            "--uts",
            "--ipc",
            "--kill-child=KILL",
            "bash",
        ]);
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
}

impl Booted {
    /// Fails unless the probe found every check of its text (`what="…"`) right.
    ///
    /// # Errors
    /// With what it said, and the controllers' log.
    pub fn passed(&self, probe: &str) -> Result<()> {
        let Self { said, log } = self;
        let checks = probe.lines().filter_map(|line| line.strip_prefix("what=\"")?.strip_suffix('"'));
        for check in checks {
            ensure!(said.lines().any(|line| line == format!("ok {check}")), "not ok: {check}\n{said}\n{log}");
        }
        // systemctl says of jobs, in the middle of a line, that they failed.
        ensure!(!said.lines().any(|line| line.starts_with("failed ")), "{said}\n{log}");
        Ok(())
    }
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
