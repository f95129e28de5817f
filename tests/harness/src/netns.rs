//! Network namespaces that go away with the test.

use std::fs::File;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// Distinguishes namespaces of one process; the process's number distinguishes processes.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses.
pub fn unique(what: &str) -> String {
    format!("bl-{}-{}-{what}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(role: &str) -> Result<Self> {
        let name = unique(role);
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// `ip`, with these words, in the namespace.
    pub fn ip(&self, words: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace())).map(drop)
    }

    /// A command to be run in the namespace; only the network is another, so that pins are seen by all.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Runs a command line in the namespace to its end.
    pub fn sh(&self, words: &str) -> Result<()> {
        let mut words = words.split_whitespace();
        run(self.command(words.next().context("an empty command")?).args(words)).map(drop)
    }

    /// Runs `work` on a thread of its own in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = File::open(self.path()).with_context(|| format!("opening {}", self.path()))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || -> Result<T> {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs async `work` in the namespace, with a runtime of its own.
    pub fn block_on<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> Result<T> {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(work()))
        })?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs a command to its end; its error says what it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(output)
}
