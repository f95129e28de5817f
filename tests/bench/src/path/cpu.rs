//! Processor time: of the whole machine, and of processes.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// Of the kernel's clock ticks; USER_HZ is 100 on every architecture of interest.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the machine's processors did until a moment.
pub struct Machine {
    at: Instant,
    processors: usize,
    /// Seconds of all processors in which they were idle, or the host did not let them run.
    away: f64,
}

impl Machine {
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let at = Instant::now();
        let line = text.lines().next().context("an empty /proc/stat")?;
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let away = [3, 4, 7].iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / TICKS_PER_SECOND;
        let processors = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
        Ok(Self { at, processors, away })
    }

    /// Seconds of processor time that were spent since. Idle time and not the sum of the rest, which the kernel samples
    /// at ticks: soft interrupts are shorter than these.
    pub fn spent_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let all = (now.at - self.at).as_secs_f64() * now.processors as f64;
        Ok((all - (now.away - self.away)).max(0.0))
    }
}

/// Seconds of processor time that the processes have had, all threads; what has ended counts nothing.
pub fn of_processes(pids: &[u32]) -> f64 {
    let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = |thread: fs::DirEntry| -> f64 {
        // The first number: time on a processor.
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    pids.iter().flat_map(threads).map(nanoseconds).sum::<f64>() / 1e9
}

/// Children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = |other: &u32| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{other}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|other| parent(other) == Some(pid)).collect()
}
