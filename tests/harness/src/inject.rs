//! strace on a controller that runs: it has a system call fail, or ends the controller there.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::controller::Controller;

/// `what` is what strace does at the call, such as `error=EIO:when=3`. Answers once every thread is traced.
pub fn into(controller: &Controller<'_>, call: &str, what: &str) -> Result<Child> {
    let pid = controller.pid().context("not running")?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:{what}"), "-p", &pid.to_string()]);
    let child = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("starting strace")?;
    let deadline = Instant::now() + Duration::from_secs(5);
    let traced = || -> Result<bool> {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            if status.contains("TracerPid:\t0\n") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    while !traced()? {
        ensure!(Instant::now() < deadline, "strace does not attach");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
