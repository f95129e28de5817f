//! What became of connections, added up.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::schedule::Skip;

/// A day, the longest timeout, and the second for which a connection may be late.
const LONGEST_US: u64 = 86_401_000_000;

/// What became of one connection. Times count from when it was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// This host's own delay before it began to connect.
    pub begun: Duration,
    pub connected: Option<Duration>,
    pub answered: Option<Duration>,
    /// Known once it is connected.
    pub source: Option<SocketAddr>,
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Refused,
    Reset,
    TimedOut,
    Other(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            // A pipe breaks where a reset came before the request was written.
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::AddrNotAvailable => {
                Self::Other("no free source port, or no such source address: give further --from".to_owned())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Failed connections by what was wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    pub refused: u64,
    pub reset: u64,
    pub timed_out: u64,
    pub other: BTreeMap<String, u64>,
}

impl Failures {
    pub fn total(&self) -> u64 {
        self.refused + self.reset + self.timed_out + self.other.values().sum::<u64>()
    }

    fn count(&mut self, failure: Failure) {
        match failure {
            Failure::Refused => self.refused += 1,
            Failure::Reset => self.reset += 1,
            Failure::TimedOut => self.timed_out += 1,
            Failure::Other(text) => *self.other.entry(text).or_default() += 1,
        }
    }
}

/// All connections of a run.
#[derive(Debug, Clone)]
pub struct Tally {
    pub opened: u64,
    pub succeeded: u64,
    pub failures: Failures,
    /// Connections that were open when an impatient user ended the run.
    pub unfinished: u64,
    /// Never opened, because as many as may be were open.
    pub skipped_by_bound: u64,
    /// Never opened, because this host was behind its schedule.
    pub skipped_late: u64,
    /// Most that were open at once.
    pub most_open: usize,
    /// Time in which connections were opened: the whole duration, or until the user ended it.
    pub opening: Duration,
    pub interrupted: bool,
    /// How often each source address and port was connected: the same ones are the same flow to a balancer.
    pub sources: HashMap<SocketAddr, u32>,
    /// Microseconds.
    pub begun: Histogram<u64>,
    pub connected: Histogram<u64>,
    pub answered: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "constants, which the crate accepts")]
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds and digits are valid");
        Self {
            opened: 0,
            succeeded: 0,
            failures: Failures::default(),
            unfinished: 0,
            skipped_by_bound: 0,
            skipped_late: 0,
            most_open: 0,
            opening: Duration::ZERO,
            interrupted: false,
            sources: HashMap::new(),
            begun: histogram(),
            connected: histogram(),
            answered: histogram(),
        }
    }
}

impl Tally {
    pub fn skip(&mut self, why: Skip) {
        match why {
            Skip::Bound => self.skipped_by_bound += 1,
            Skip::Late => self.skipped_late += 1,
        }
    }

    pub fn skipped(&self) -> u64 {
        self.skipped_by_bound + self.skipped_late
    }

    /// The number of different flows that would vary as much by chance as these do, some of which came again:
    /// (Σn)² / Σn² (Kish's effective sample size, 1965).
    pub fn effective_flows(&self) -> f64 {
        let times = || self.sources.values().map(|times| f64::from(*times));
        let squares: f64 = times().map(|times| times * times).sum();
        if squares > 0.0 { times().sum::<f64>().powi(2) / squares } else { 0.0 }
    }

    /// Counts a connection that ended.
    pub fn end(&mut self, outcome: Outcome) {
        let record = |histogram: &mut Histogram<u64>, latency: Duration| {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        };
        record(&mut self.begun, outcome.begun);
        outcome.connected.inspect(|latency| record(&mut self.connected, *latency));
        outcome.answered.inspect(|latency| record(&mut self.answered, *latency));
        if let Some(source) = outcome.source {
            *self.sources.entry(source).or_default() += 1;
        }
        match outcome.failure {
            None => self.succeeded += 1,
            Some(failure) => self.failures.count(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that was begun at once, and nothing else.
    const BEGUN: Outcome =
        Outcome { begun: Duration::ZERO, connected: None, answered: None, source: None, failure: None };

    #[test]
    fn failures_are_counted_by_kind() {
        let mut tally = Tally::default();
        for kind in [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::TimedOut,
            ErrorKind::AddrNotAvailable,
        ] {
            tally.end(Outcome { failure: Some(io::Error::from(kind).into()), ..BEGUN });
        }
        let Failures { refused, reset, timed_out, other } = &tally.failures;
        assert_eq!((*refused, *reset, *timed_out, tally.succeeded), (1, 2, 1, 0));
        assert!(other.keys().next().unwrap().contains("--from"));
        assert_eq!((tally.failures.total(), tally.begun.len(), tally.connected.len()), (5, 5, 0));
    }

    #[test]
    fn a_connection_that_is_not_answered_counts_as_connected() {
        let mut tally = Tally::default();
        let connected = Some(Duration::from_micros(999));
        tally.end(Outcome { connected, failure: Some(Failure::TimedOut), ..BEGUN });
        assert_eq!((tally.connected.max(), tally.answered.len(), tally.failures.timed_out), (999, 0, 1));
    }

    #[test]
    fn the_longest_latency_is_kept_to_three_digits() {
        let mut tally = Tally::default();
        for seconds in [2, 86_401] {
            tally.end(Outcome { connected: Some(Duration::from_secs(seconds)), ..BEGUN });
        }
        let (shortest, longest) = (tally.connected.min() as f64, tally.connected.max() as f64);
        assert!((shortest / 2e6 - 1.0).abs() < 1e-3 && (longest / 86_401e6 - 1.0).abs() < 1e-3, "{shortest} {longest}");
    }

    #[test]
    fn a_flow_that_comes_again_says_nothing_new() {
        let mut tally = Tally::default();
        assert_eq!(tally.effective_flows(), 0.0);
        let mut connect = |port: u16| {
            tally.end(Outcome { source: Some(([10, 0, 0, 1], port).into()), ..BEGUN });
            tally.effective_flows()
        };
        assert_eq!([1, 2, 3].map(&mut connect)[2], 3.0);
        assert_eq!([1, 2, 3].map(&mut connect)[2], 3.0);
        // Three of one flow and two each of the others: 7² / (9 + 4 + 4).
        assert_eq!(connect(1), 49.0 / 17.0);
    }
}
