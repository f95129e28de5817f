//! A program that leaves nothing behind, whatever ends it: the work is done by a child process, and the parent takes away
//! what the child made once it is gone.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

/// Set in the child.
const CHILD: &str = "BALANCER_SUPERVISED";

/// Runs `work` in a child process, and takes away what it leaves. Ctrl-C and SIGTERM end the child.
pub fn run(work: impl FnOnce() -> Result<()>) -> ExitCode {
    let outcome = if std::env::var_os(CHILD).is_some() { work().map(|()| ExitCode::SUCCESS) } else { supervise() };
    outcome.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn supervise() -> Result<ExitCode> {
    // Blocked, signals wait to be looked at, also where whoever started this had them ignored.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("blocking signals")?;
    let files = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(CHILD, "1").env("TMPDIR", files.path());
    // A group of its own, so that Ctrl-C at the terminal reaches only the parent.
    command.process_group(0);
    // SAFETY: only unblocks signals, which is safe after fork.
    unsafe { command.pre_exec(move || signals.thread_unblock().map_err(std::io::Error::from)) };
    let mut child = command.spawn().context("starting the work")?;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break u8::try_from(status.code().unwrap_or(1)).unwrap_or(1);
        }
        if interrupted(&signals)? {
            // The whole group: what a surviving child made after the sweep would stay.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            child.wait()?;
            eprintln!("interrupted: cleaning up");
            break 130;
        }
    };
    xtask::sweep::of(child.id());
    Ok(ExitCode::from(code))
}

/// Waits a moment for a signal.
fn interrupted(signals: &SigSet) -> Result<bool> {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: Duration::from_millis(50).subsec_nanos().into() };
    // SAFETY: a valid set and a valid duration; no information about the signal is asked for.
    let signal = unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &raw const moment) };
    match Errno::result(signal) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(error) => Err(error).context("waiting for signals"),
    }
}
