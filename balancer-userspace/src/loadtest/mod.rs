//! `balancer loadtest`: real connections to a service at a steady rate, within a hard bound.
//!
//! `schedule` says when to open what, `connect` does it, `tally` adds up, `report` compares with the controller's counters.

mod alarm;
pub mod connect;
pub mod report;
pub mod schedule;
pub mod tally;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::alarm::Alarm;
use self::connect::Connection;
use self::schedule::{Pacer, Schedule, Skip, Step};
use self::tally::{Failure, Outcome, Tally};

/// Steps without looking at anything else, such as the user's wish to end.
const STEPS_AT_ONCE: usize = 64;
/// Open files beside the connections.
const OTHER_FILES: u64 = 64;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Load {
    pub schedule: Schedule,
    pub connection: Connection,
    /// Addresses to bind to in turn; with none, the kernel chooses.
    pub sources: Vec<IpAddr>,
}

/// How a run stands.
#[derive(Debug)]
pub struct Progress<'a> {
    pub elapsed: Duration,
    /// Connections that are open.
    pub open: usize,
    pub tally: &'a Tally,
}

impl Load {
    /// Runs to its end, or until SIGINT ends it early: the first stops the opening, the second the waiting for answers.
    /// `progress` is called every second.
    pub async fn run(&self, progress: impl FnMut(Progress<'_>)) -> Result<Tally> {
        allow_files(self.schedule.most_open)?;
        let mut run = Run {
            load: self,
            connection: Arc::new(self.connection.clone()),
            progress,
            alarm: Alarm::new().context("making a timer")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for signals")?,
            second: every_second(),
            open: JoinSet::new(),
            start: Instant::now(),
            tally: Tally::default(),
        };
        run.open_all().await?;
        run.finish().await?;
        Ok(run.tally)
    }
}

struct Run<'a, P> {
    load: &'a Load,
    connection: Arc<Connection>,
    progress: P,
    alarm: Alarm,
    interrupt: Signal,
    second: Interval,
    /// One task for each connection, which holds its socket: never more of these than of those.
    open: JoinSet<Option<Outcome>>,
    start: Instant,
    tally: Tally,
}

impl<P: FnMut(Progress<'_>)> Run<'_, P> {
    async fn open_all(&mut self) -> Result<()> {
        let mut pacer = Pacer::new(self.load.schedule);
        let mut steps = 0;
        loop {
            while let Some(ended) = self.open.try_join_next() {
                self.end(ended);
            }
            let now = self.start.elapsed();
            let wait = match pacer.step(now, self.open.len()) {
                Step::Open { due } => {
                    self.begin(due);
                    None
                }
                Step::Skip(why) => {
                    self.tally.skip(why);
                    None
                }
                Step::Wait { until } => Some(until - now),
                Step::Done => {
                    self.tally.opening = now.max(self.load.schedule.duration);
                    return Ok(());
                }
            };
            steps += 1;
            let wait = wait.or_else(|| (steps >= STEPS_AT_ONCE).then_some(Duration::ZERO));
            if let Some(wait) = wait {
                steps = 0;
                if self.wait(wait).await? {
                    self.tally.interrupted = true;
                    self.tally.opening = self.start.elapsed();
                    return Ok(());
                }
            }
        }
    }

    /// Waits for connections that are open; each has its timeout.
    async fn finish(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            if self.wait(self.load.connection.timeout).await? {
                self.tally.interrupted = true;
                self.tally.unfinished = self.open.len() as u64;
                self.open.shutdown().await;
            }
        }
        Ok(())
    }

    fn begin(&mut self, due: Duration) {
        let sources = &self.load.sources;
        let turn = self.tally.opened % (sources.len() as u64).max(1);
        let source = usize::try_from(turn).ok().and_then(|turn| sources.get(turn)).copied();
        let (connection, due) = (self.connection.clone(), self.start + due);
        self.open.spawn(async move { connection.run(source, due).await });
        self.tally.opened += 1;
        self.tally.most_open = self.tally.most_open.max(self.open.len());
    }

    fn end(&mut self, ended: Result<Option<Outcome>, JoinError>) {
        let broken = |error: JoinError| Outcome {
            begun: Duration::ZERO,
            connected: None,
            answered: None,
            source: None,
            failure: Some(Failure::Other(error.to_string())),
        };
        match ended.unwrap_or_else(|error| Some(broken(error))) {
            Some(outcome) => self.tally.end(outcome),
            None => {
                self.tally.opened -= 1;
                self.tally.skip(Skip::Late);
            }
        }
    }

    /// Waits until a connection ends or this time is over; whether the user wants an end.
    async fn wait(&mut self, longest: Duration) -> Result<bool> {
        tokio::select! {
            _ = self.interrupt.recv() => return Ok(true),
            _ = self.second.tick() => {
                let (elapsed, open) = (self.start.elapsed(), self.open.len());
                (self.progress)(Progress { elapsed, open, tally: &self.tally });
            }
            Some(ended) = self.open.join_next() => self.end(ended),
            over = self.alarm.after(longest) => over.context("waiting for a timer")?,
        }
        Ok(false)
    }
}

fn every_second() -> Interval {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    second
}

/// Makes room for this many connections among the files that this process may have open.
fn allow_files(connections: usize) -> Result<()> {
    let needed = connections as u64 + OTHER_FILES;
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    if now >= needed {
        return Ok(());
    }
    ensure!(
        most >= needed,
        "--connections {connections} needs {needed} open files and this process may have {most}: lower it, or raise the \
         limit (`ulimit -Hn`, `LimitNOFILE=`)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, most).context("raising the limit of open files")
}
