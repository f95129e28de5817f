//! The log of the controller: to the journal with levels and fields where stderr leads there, else to stderr. An error that a loop meets again and again is said once, and then counted once a minute.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};

use crate::printable;

/// The target of errors that answer something that was asked for: each is said.
pub const ASKED: &str = "balancer::asked";
/// How long an equal line is counted instead of said.
const QUIET: Duration = Duration::from_secs(60);
/// Different lines that are remembered; beyond, each is said.
const MOST: usize = 1024;

/// Lines that were said, and how often they came again.
#[derive(Debug, Default)]
struct Repeats(HashMap<String, Repeated>);

#[derive(Debug)]
struct Repeated {
    since: Instant,
    again: u64,
}

impl Repeats {
    /// Whether the line is to be said now.
    fn is_new(&mut self, line: &str, now: Instant) -> bool {
        if let Some(repeated) = self.0.get_mut(line) {
            repeated.again += 1;
            return false;
        }
        if self.0.len() < MOST {
            self.0.insert(line.to_owned(), Repeated { since: now, again: 0 });
        }
        true
    }

    /// Lines whose minute is over, with how often they came again in it; those that did not are forgotten.
    fn due(&mut self, now: Instant) -> Vec<(String, u64)> {
        let over = |repeated: &Repeated| now >= repeated.since + QUIET;
        self.0.retain(|_, repeated| repeated.again > 0 || !over(repeated));
        let mut due = Vec::new();
        for (line, repeated) in self.0.iter_mut().filter(|(_, repeated)| over(repeated)) {
            due.push((line.clone(), repeated.again));
            *repeated = Repeated { since: now, again: 0 };
        }
        due
    }
}

/// A log that says equal errors once a minute.
struct Limited<L> {
    log: L,
    repeats: Mutex<Repeats>,
}

impl<L: Log> Limited<L> {
    fn say_counts(&self, now: Instant) {
        let due = self.repeats.lock().unwrap_or_else(PoisonError::into_inner).due(now);
        for (line, again) in due {
            let times = if again == 1 { "once".to_owned() } else { format!("{again} times") };
            let record = |message| {
                self.log.log(&Record::builder().level(Level::Error).target("balancer").args(message).build());
            };
            record(format_args!("{line} ({times} more within {} s)", QUIET.as_secs()));
        }
    }
}

impl<L: Log> Log for Limited<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() == Level::Error && record.target() != ASKED && self.enabled(record.metadata()) {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            if !repeats.is_new(&record.args().to_string(), Instant::now()) {
                return;
            }
        }
        self.log.log(record);
    }

    fn flush(&self) {
        self.say_counts(Instant::now());
        self.log.flush();
    }
}

/// The journal where there is one, else stderr. What the journal does not take is said on stderr.
struct Out {
    stderr: env_logger::Logger,
    journal: Option<JournalLog>,
}

impl Out {
    fn to(stderr: env_logger::Logger) -> Self {
        let journal = || Some(JournalLog::new().ok()?.with_syslog_identifier("balancer".to_owned()));
        Self { stderr, journal: if connected_to_journal() { journal() } else { None } }
    }
}

impl Log for Out {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.stderr.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.stderr.matches(record) {
            return;
        }
        if !self.journal.as_ref().is_some_and(|journal| journalled(journal, record)) {
            self.stderr.log(record);
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// Whether the journal took the record.
fn journalled(journal: &JournalLog, record: &Record<'_>) -> bool {
    let message = record.args().to_string();
    let message = printable::block(&message);
    let mut plain = Record::builder();
    plain.metadata(record.metadata().clone()).key_values(record.key_values());
    plain.module_path(record.module_path()).file(record.file()).line(record.line());
    journal.journal_send(&plain.args(format_args!("{message}")).build()).is_ok()
}

/// Logs from now on.
pub fn start() {
    // What the XDP program says is chosen by `node.datapath_log`, in the kernel.
    let filter = env_logger::Env::default().default_filter_or("info,balancer_xdp=trace");
    let log = env_logger::Builder::from_env(filter).format(log_line).build();
    let level = log.filter();
    if log::set_boxed_logger(Box::new(Limited { log: Out::to(log), repeats: Mutex::default() })).is_ok() {
        log::set_max_level(level);
    }
}

/// One record. What follows its first line is indented, so that no text can pass for a record of its own.
fn log_line(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let (time, level) = (out.timestamp(), record.level());
    let message = record.args().to_string();
    let message = printable::block(&message).replace('\n', "\n    ");
    writeln!(out, "[{time} {level:<5}] {message}")
}

/// Says how often errors came again; once a second.
pub fn tick() {
    log::logger().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_comes_every_tick_is_said_once_and_counted_each_minute() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut said = 0;
        let mut counted = Vec::new();
        for second in 0..150 {
            for _ in 0..10 {
                said += u32::from(repeats.is_new("no descriptors", at(second)));
            }
            counted.extend(repeats.due(at(second)));
        }
        assert_eq!(said, 1);
        assert_eq!(counted, [("no descriptors".to_owned(), 609), ("no descriptors".to_owned(), 600)]);
        assert_eq!(repeats.due(at(210)), [("no descriptors".to_owned(), 290)]);
        assert!(repeats.due(at(270)).is_empty(), "it does not come any more");
        assert!(repeats.is_new("no descriptors", at(271)), "it is news again");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_lost() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..MOST + 10 {
            assert!(repeats.is_new(&number.to_string(), now));
        }
        assert_eq!(repeats.0.len(), MOST);
        assert!(repeats.is_new(&(MOST + 5).to_string(), now));
    }
}
