//! The virtual machine: booted, listened to, and ended in any case.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::report::{Case, Line};

use super::broken;
use super::fetch::Kernel;
use super::table::Run;

/// Emulated processors are slow, and share this machine's with others.
const LIMIT: Duration = Duration::from_secs(300);
/// How much of the console says what the guest died of.
const LAST_LINES: usize = 25;

/// Ended with the value.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots the kernel and gathers what the guest says; `tell` hears each case at once.
pub(super) fn run(kernel: &Kernel, initramfs: &Path, tell: impl Fn(&Case)) -> Result<Run> {
    let console = kernel.directory.join("console.log");
    let start = Instant::now();
    let mut machine = boot(kernel, initramfs, &console)?;
    let out = machine.0.stdout.take().context("no output of the machine")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut run = Run::new(&kernel.series);
    let end = loop {
        match lines.recv_timeout(LIMIT.saturating_sub(start.elapsed())) {
            Ok(text) => match serde_json::from_str(text.trim()) {
                Ok(Line::Kernel(release)) => run.release = release,
                Ok(Line::Case(case)) => {
                    tell(&case);
                    run.cases.push(case);
                }
                Ok(Line::End) => break None,
                Err(_) => {}
            },
            Err(RecvTimeoutError::Timeout) => break Some(format!("no end after {} s", LIMIT.as_secs())),
            Err(RecvTimeoutError::Disconnected) => break Some("the machine stopped".to_owned()),
        }
    };
    drop(machine);
    run.seconds = start.elapsed().as_secs_f64();
    if let Some(end) = end {
        let said = fs::read(&console).map(|bytes| last_lines(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
        let case = broken("guest", format!("{end}; {} ends with\n{said}", console.display()), run.seconds);
        tell(&case);
        run.cases.push(case);
    }
    Ok(run)
}

fn boot(kernel: &Kernel, initramfs: &Path, console: &Path) -> Result<Machine> {
    let mut command = Command::new("qemu-system-x86_64");
    // Emulated, because hosts that are virtual machines themselves often can't accelerate.
    command.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none"]);
    command.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off"]).arg("-no-reboot");
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // SAFETY: prctl is a plain system call, safe after fork.
    unsafe {
        command.pre_exec(|| {
            // Whatever ends this process ends the machine.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    };
    command.spawn().map(Machine).context("starting qemu-system-x86_64")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
