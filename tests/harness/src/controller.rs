//! The real `balancer` in a namespace.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use balancer::control::api::{History, Status};
use balancer::history::Record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::netns::{Namespace, unique};
use crate::server::binary;

/// Lines of `[service.health]` for tests that are about something else. A first success counts at once; a check that a busy
/// machine fails would keep the backend out of the first tables, and UDP flows to those that are in them for minutes.
pub const PATIENT: &str = "interval = \"2s\"\ntimeout = \"2s\"";

/// A controller with its config, state and pins; all go with the value.
pub struct Controller<'a> {
    namespace: &'a Namespace,
    directory: TempDir,
    pin_dir: PathBuf,
    process: Option<Child>,
}

/// A config that a controller is not told of yet.
pub struct Proposed {
    pub path: String,
    pub text: String,
}

impl<'a> Controller<'a> {
    /// Prepares a controller whose config is `body` after a `[node]` table for this test, and starts it.
    pub fn start(namespace: &'a Namespace, body: &str) -> Result<Self> {
        let mut controller = Self::prepare(namespace, body)?;
        controller.run()?;
        Ok(controller)
    }

    pub fn prepare(namespace: &'a Namespace, body: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("pins"));
        let controller = Self { namespace, directory, pin_dir, process: None };
        controller.configure(body)?;
        Ok(controller)
    }

    /// Writes the config. `{node}` in `body` stands for further lines of the `[node]` table.
    pub fn configure(&self, body: &str) -> Result<()> {
        let state = self.directory.path().display();
        let (node, rest) = body.split_once("{node}").unwrap_or(("", body));
        let text = format!(
            "[node]\nname = \"lab\"\nstate_dir = \"{state}/state\"\npin_dir = \"{}\"\n\
             control_socket = \"{}\"\nhttp_listen = \"127.0.0.1:9405\"\n{node}\n{rest}",
            self.pin_dir.display(),
            self.socket().display(),
        );
        fs::write(self.config(), text)?;
        Ok(())
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("balancer.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    pub fn pin_dir(&self) -> &std::path::Path {
        &self.pin_dir
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// What the controller logged, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts the controller and waits until it answers.
    pub fn run(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("log"))?;
        let mut command = self.namespace.command(&binary("balancer")?.display().to_string());
        command.arg("run").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn().context("starting balancer")?);
        let deadline = Instant::now() + Duration::from_secs(120);
        // Any answer comes after the first step; one of few words also where there are many services.
        while !self.cli(&["history", "--json"])?.status.success() {
            if let Some(status) = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten()) {
                bail!("balancer ended with {status}:\n{}", self.log());
            }
            ensure!(Instant::now() < deadline, "balancer does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs a command of the CLI to its end.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("balancer")?);
        Ok(command.arg("--socket").arg(self.socket()).args(args).output()?)
    }

    /// Runs a command that must be done, and says what it printed.
    pub fn done(&self, args: &[&str]) -> Result<String> {
        let output = self.cli(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "balancer {args:?}: {}: {said}\n{}", output.status, self.log());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a command answers that must be done.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        Ok(serde_json::from_str(&self.done(&[args, &["--json"]].concat())?)?)
    }

    /// Runs a command whose answer must be no, for these reasons.
    pub fn refused(&self, args: &[&str], wanted: &[&str]) -> Result<()> {
        let output = self.cli(args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{args:?}: {}: {said}", output.status);
        for part in wanted {
            ensure!(said.contains(part), "no {part:?} in {said}");
        }
        Ok(())
    }

    pub fn status(&self) -> Result<Status> {
        self.json(&["status"])
    }

    /// The first service's shares in the kernel.
    pub fn shares(&self) -> Result<Vec<f64>> {
        let status = self.status()?;
        Ok(status.services[0].backends.iter().map(|backend| backend.share.kernel.unwrap_or(0.0)).collect())
    }

    /// The history, oldest first.
    pub fn records(&self) -> Result<Vec<Record>> {
        Ok(self.json::<History>(&["history"])?.records)
    }

    /// Writes a config beside the controller's: the same, but one text stands in the place of another.
    pub fn propose(&self, replaced: &[(&str, &str)]) -> Result<Proposed> {
        let mut text = fs::read_to_string(self.config())?;
        for (usual, other) in replaced {
            ensure!(text.contains(usual), "no {usual:?} in\n{text}");
            text = text.replacen(usual, other, 1);
        }
        let path = self.config().with_file_name("proposed.toml").display().to_string();
        fs::write(&path, &text)?;
        Ok(Proposed { path, text })
    }

    /// Waits until the status is as wanted.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "not within {limit:?}: {what}\n{status:#?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until every backend of every service takes flows.
    pub fn wait_all_up(&self) -> Result<Status> {
        self.wait_for("all backends up", Duration::from_secs(10), |status| {
            status.services.iter().flat_map(|s| &s.backends).all(|b| b.share.kernel.is_some_and(|share| share > 0.0))
        })
    }

    /// Number of the controller's process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().context("not running")?;
        Ok(kill(Pid::from_raw(process.id() as i32), signal)?)
    }

    /// Sets how many files the controller may open, from the outside.
    pub fn limit_files(&self, files: u64) -> Result<()> {
        let process = self.process.as_ref().context("not running")?;
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one `rlimit`, which lives through the call.
        unsafe { libc::prlimit(process.id() as i32, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
        limit.rlim_cur = files;
        // SAFETY: the kernel reads one `rlimit`, which lives through the call.
        let answer =
            unsafe { libc::prlimit(process.id() as i32, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        ensure!(answer == 0, "setting the limit of open files: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Sends a signal that ends the controller, and waits for the end.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        let mut process = self.process.take().context("not running")?;
        process.wait()?;
        Ok(())
    }

    /// Waits until the controller ended by itself.
    pub fn ended(&mut self) -> Result<()> {
        let mut process = self.process.take().context("not running")?;
        process.wait()?;
        Ok(())
    }
}

impl Controller<'_> {
    /// What whoever looks into a failed test wants to know. nextest shows what a test printed only where it failed.
    fn tell(&self) {
        if std::env::var_os("NEXTEST").is_none() {
            return;
        }
        if let (Some(_), Ok(program)) = (&self.process, binary("balancer")) {
            let mut command = Command::new("timeout");
            command.arg("5").arg(program).arg("--socket").arg(self.socket()).args(["status", "--wide"]);
            let said = command.output().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
            eprintln!("status of the controller at the end:\n{}", ends(&String::from_utf8_lossy(&said)));
        }
        eprintln!("log of the controller:\n{}", ends(&self.log()));
    }
}

/// The first and the last lines of a long text.
fn ends(text: &str) -> String {
    const EACH: usize = 150;
    let lines: Vec<&str> = text.lines().collect();
    match lines.len().checked_sub(2 * EACH) {
        Some(left_out @ 1..) => {
            let middle = format!("… {left_out} lines …");
            [&lines[..EACH], &[middle.as_str()], &lines[lines.len() - EACH..]].concat().join("\n")
        }
        _ => lines.join("\n"),
    }
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        self.tell();
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Ok(program) = binary("balancer") {
            let detach = ["detach".as_ref(), "--pin-dir".as_ref(), self.pin_dir.as_os_str()];
            let _ = Command::new(program).arg("--socket").arg(self.socket()).args(detach).output();
        }
    }
}
