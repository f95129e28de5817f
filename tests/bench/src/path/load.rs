//! The load: one thread, a poll loop, messages of 100 bytes to a `benchserver` and back. Bounded in time, connections and
//! failures.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Length of a request and of an answer.
pub const MESSAGE: usize = 100;
/// First byte of a request whose connection the server closes, and of one whose connection stays.
pub const CLOSE: u8 = b'c';
pub const KEEP: u8 = b'k';

const TIMER: Token = Token(usize::MAX - 1);
/// More than this is not a measurement.
const MOST_FAILURES: u64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A connection for each request; every connection begins the next when it is done.
    New,
    /// The same on connections that stay.
    Kept,
    /// Requests a second on connections that stay, whether or not earlier ones are answered.
    Paced(u32),
}

pub struct Load<'a> {
    pub kind: Kind,
    pub connections: usize,
    /// Connections are spread over these in turn.
    pub targets: &'a [SocketAddr],
    pub duration: Duration,
}

#[derive(Debug, Clone)]
pub struct Outcome {
    pub seconds: f64,
    pub requests: u64,
    pub failed: u64,
    /// Answers by the number of the server.
    pub by_server: Vec<u64>,
    /// Microseconds from the connection's beginning (`New`) or the request's (else) until the whole answer is there.
    pub median_us: f64,
    pub p99_us: f64,
    /// Processor time of this load.
    pub cpu_seconds: f64,
}

struct Connection {
    stream: TcpStream,
    target: usize,
    start: Instant,
    received: usize,
    /// Its first request has not been sent: it is still being opened.
    new: bool,
    waits: bool,
}

struct Run<'a> {
    load: &'a Load<'a>,
    poll: Poll,
    connections: Vec<Connection>,
    /// Whose turn it is, first in first out: every connection is used.
    idle: VecDeque<usize>,
    latencies: Histogram<u64>,
    requests: u64,
    failed: u64,
    by_server: Vec<u64>,
    counting: bool,
}

impl Load<'_> {
    /// Runs the load in the namespace of this thread.
    pub fn run(&self) -> Result<Outcome> {
        let mut run = Run {
            load: self,
            poll: Poll::new()?,
            connections: Vec::new(),
            idle: VecDeque::new(),
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            requests: 0,
            failed: 0,
            by_server: vec![0; 256],
            counting: true,
        };
        run.all()
    }
}

impl Run<'_> {
    fn all(&mut self) -> Result<Outcome> {
        let cpu = cpu()?;
        let start = Instant::now();
        for at in 0..self.load.connections {
            let connection = self.open(at, at)?;
            self.connections.push(connection);
        }
        let mut timer = self.timer()?;
        let mut events = Events::with_capacity(1024);
        while self.counting {
            match self.poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                match event.token() {
                    TIMER => self.begin_due(&mut timer)?,
                    Token(at) => self.go_on(at, event.is_writable())?,
                }
            }
            ensure!(self.failed < MOST_FAILURES, "{} requests failed, {} did not", self.failed, self.requests);
            self.counting = start.elapsed() < self.load.duration;
        }
        let seconds = start.elapsed().as_secs_f64();
        // Whoever waits for so long lost a packet.
        let lost = self.connections.iter().filter(|c| c.waits && c.start.elapsed() > Duration::from_millis(900));
        let failed = self.failed + lost.count() as u64;
        ensure!(self.requests > 0, "no request was answered");
        Ok(Outcome {
            seconds,
            requests: self.requests,
            failed,
            by_server: self.by_server.clone(),
            median_us: self.latencies.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: self.latencies.value_at_quantile(0.99) as f64 / 1e3,
            cpu_seconds: self::cpu()? - cpu,
        })
    }

    fn timer(&self) -> Result<Option<TimerFd>> {
        let Kind::Paced(rate) = self.load.kind else { return Ok(None) };
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let interval = nix::sys::time::TimeSpec::nanoseconds(1_000_000_000 / i64::from(rate));
        timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
        let descriptor = timer.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)?;
        Ok(Some(timer))
    }

    /// Begins as many requests as the timer says; what no connection is free for has failed.
    fn begin_due(&mut self, timer: &mut Option<TimerFd>) -> Result<()> {
        let Some(timer) = timer else { return Ok(()) };
        let mut due = [0; 8];
        if nix::unistd::read(timer.as_fd(), &mut due).is_err() {
            return Ok(());
        }
        for _ in 0..u64::from_ne_bytes(due) {
            match self.idle.pop_front() {
                Some(at) => self.request(at)?,
                // Connections are still being opened.
                None if self.requests == 0 => {}
                None => self.failed += 1,
            }
        }
        Ok(())
    }

    fn open(&mut self, at: usize, target: usize) -> Result<Connection> {
        let start = Instant::now();
        let target = target % self.load.targets.len();
        let mut stream = TcpStream::connect(self.load.targets[target]).context("connecting")?;
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(at), interest)?;
        Ok(Connection { stream, target, start, received: 0, new: true, waits: true })
    }

    /// Opens a connection in the place of one that is done or has failed.
    fn reopen(&mut self, at: usize) -> Result<()> {
        let target = self.connections[at].target + self.load.connections;
        self.connections[at] = self.open(at, target)?;
        Ok(())
    }

    fn request(&mut self, at: usize) -> Result<()> {
        let connection = &mut self.connections[at];
        let mut request = [b'.'; MESSAGE];
        request[0] = if self.load.kind == Kind::New { CLOSE } else { KEEP };
        if self.load.kind != Kind::New {
            connection.start = Instant::now();
        }
        connection.received = 0;
        connection.waits = true;
        match connection.stream.write(&request) {
            Ok(MESSAGE) => Ok(()),
            _ => self.fail(at),
        }
    }

    fn fail(&mut self, at: usize) -> Result<()> {
        self.failed += 1;
        self.reopen(at)
    }

    /// Something happened to a connection.
    fn go_on(&mut self, at: usize, writable: bool) -> Result<()> {
        let connection = &mut self.connections[at];
        if writable && connection.new {
            // It is open now, or failed to.
            if connection.stream.peer_addr().is_err() {
                return self.fail(at);
            }
            connection.new = false;
            if matches!(self.load.kind, Kind::Paced(_)) {
                connection.waits = false;
                self.idle.push_back(at);
                return Ok(());
            }
            return self.request(at);
        }
        let mut buffer = [0; 1024];
        loop {
            let connection = &mut self.connections[at];
            match connection.stream.read(&mut buffer) {
                Ok(0) if self.load.kind == Kind::New && connection.received == MESSAGE => {
                    self.answered(at);
                    return self.reopen(at);
                }
                Ok(count @ 1..) if connection.waits && connection.received + count <= MESSAGE => {
                    if connection.received == 0 {
                        self.by_server[usize::from(buffer[0])] += 1;
                    }
                    connection.received += count;
                    if connection.received == MESSAGE && self.load.kind != Kind::New {
                        self.answered(at);
                        if self.load.kind == Kind::Kept {
                            return self.request(at);
                        }
                        self.idle.push_back(at);
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                _ => return self.fail(at),
            }
        }
    }

    fn answered(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        connection.waits = false;
        self.requests += 1;
        self.latencies.saturating_record(connection.start.elapsed().as_nanos() as u64);
    }
}

/// Processor time of this thread.
fn cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}
