//! Giving alarms to a program: what a webhook would be sent is its standard input.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

const POLL: Duration = Duration::from_millis(10);

/// Runs it to its end, for so long at most; then it and what it started are killed.
///
/// # Errors
/// Why the alarms may not have arrived.
pub(super) fn run(command: &[String], body: &str, limit: Duration) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else { return Err("no program is named".to_owned()) };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it can't be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        let body = body.to_owned();
        // A program that does not read must not hold this up; one that has read enough ends the writing.
        thread::spawn(move || drop(input.write_all(body.as_bytes())));
    }
    let deadline = Instant::now() + limit;
    match end(&mut child, deadline) {
        Ok(Some(status)) => judge(status),
        Ok(None) => Err(format!("it did not end within {} and was killed", humantime::format_duration(limit))),
        Err(error) => Err(format!("waiting for it: {error}")),
    }
}

/// `None` where it had to be killed.
fn end(child: &mut Child, deadline: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn judge(status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("it ended with exit code {code}")),
        (None, signal) => Err(format!("signal {} ended it", signal.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_program_gets_the_alarms_and_says_by_its_exit_code_whether_it_took_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("alarms");
        let long = Duration::from_secs(60);
        run(&shell(&format!("cat > {}", file.display())), "{\"alarms\":[]}", long).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"alarms\":[]}");
        let said = |script: &str| run(&shell(script), "{}", long).unwrap_err();
        assert_eq!(said("exit 3"), "it ended with exit code 3");
        assert_eq!(said("kill -TERM $$"), "signal 15 ended it");
        let error = run(&["/nonexistent".to_owned()], "{}", long).unwrap_err();
        assert!(error.starts_with("it can't be run: No such file"), "{error}");
        // One that reads nothing takes nothing from the time of others.
        run(&shell("exit 0"), &"x".repeat(1 << 20), long).unwrap();
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_what_it_started() {
        let begun = Instant::now();
        let error = run(&shell("sleep 600 & sleep 600"), "{}", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error, "it did not end within 200ms and was killed");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
