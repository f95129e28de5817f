//! The profile's files: one for each day, appended to, gone when they are old.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::day::Day;
use super::record::{Record, decode, encode};

/// Files are `STATE_DIR/profile/2026-11-21.profile`; a record is in that of the day it starts on.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// As they were written.
    pub records: Vec<Record>,
    /// Records that were cut off or damaged, and are left out.
    pub broken: usize,
}

impl Store {
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("profile") }
    }

    fn path(&self, day: Day) -> PathBuf {
        self.directory.join(format!("{day}.profile"))
    }

    /// Adds a record. It is not synced: with the power, the last minutes may be lost.
    pub fn append(&self, record: &Record) -> Result<()> {
        let path = self.path(Day::of(record.start));
        let attempt = || -> Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
            Ok(file.write_all(&encode(record)?)?)
        };
        attempt().with_context(|| format!("writing {}", path.display()))
    }

    /// The days there are, oldest first.
    pub fn days(&self) -> Result<Vec<Day>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("reading {}", self.directory.display()))?,
        };
        let day = |name: &str| name.strip_suffix(".profile")?.parse().ok();
        let mut days: Vec<Day> = entries.flatten().filter_map(|entry| day(entry.file_name().to_str()?)).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// Removes all but the last `most` days that traffic was recorded on. Days are counted and not held against the clock, so
    /// that none goes because somebody set it.
    pub fn keep_days(&self, most: u32, today: Day) -> Result<()> {
        for day in surplus(&self.days()?, most, today) {
            let path = self.path(day);
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    /// The records that start within these seconds since the Unix epoch.
    pub fn read(&self, seconds: &Range<u64>) -> Result<Stored> {
        let mut stored = Stored::default();
        let concerned = Day::of(seconds.start)..=Day::of(seconds.end.saturating_sub(1));
        for day in self.days()?.into_iter().filter(|day| concerned.contains(day)) {
            let path = self.path(day);
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let (records, broken) = decode(&bytes);
            stored.records.extend(records.into_iter().filter(|record| seconds.contains(&record.start)));
            stored.broken += broken;
        }
        Ok(stored)
    }
}

/// The days to remove: the oldest by their names, but never the one that is written to. One that a clock ahead of its time
/// wrote keeps its place until that time comes.
fn surplus(days: &[Day], most: u32, today: Day) -> Vec<Day> {
    let surplus = days.len().saturating_sub(most as usize);
    days.iter().filter(|day| **day != today).take(surplus).copied().collect()
}

#[cfg(test)]
mod tests {
    use balancer_common::slot::GROUPS;

    use super::super::record::Flows;
    use super::*;

    fn record(start: u64) -> Record {
        let flows = Flows { service: "web".parse().unwrap(), mapping: 1, groups: [5; GROUPS] };
        Record { start, millis: 60_000, services: vec![flows] }
    }

    #[test]
    fn days_are_kept_apart_read_by_the_second_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        assert!(store.days().unwrap().is_empty() && store.read(&(0..u64::MAX)).unwrap().records.is_empty());
        let day = Day::of(1_800_000_000);
        let starts: Vec<u64> = (0..4).flat_map(|days| [0, 60].map(|s| day.before(3 - days).start() + s)).collect();
        starts.iter().for_each(|start| store.append(&record(*start)).unwrap());
        assert_eq!(store.days().unwrap().len(), 4);
        let found = |range: Range<u64>| store.read(&range).unwrap().records.iter().map(|r| r.start).collect::<Vec<_>>();
        assert_eq!(found(0..u64::MAX), starts);
        assert_eq!(found(day.start()..day.start() + 60), starts[6..7]);
        assert_eq!(found(day.before(1).start() + 1..day.start() + 1), starts[5..7]);
        store.keep_days(2, day).unwrap();
        assert_eq!(store.days().unwrap(), [day.before(1), day]);
    }

    #[test]
    fn no_day_goes_because_the_clock_was_set() {
        let day = |number: u64| Day::of(number * 86_400);
        let days = |numbers: &[u64]| numbers.iter().map(|number| day(*number)).collect::<Vec<_>>();
        let week = days(&[1, 2, 3, 4, 5, 6, 7]);
        assert!(surplus(&week, 7, day(7)).is_empty());
        // Four years ahead, and before there was a clock: the new day takes the place of one, as each does.
        assert!(surplus(&week, 7, day(1500)).is_empty());
        assert_eq!(surplus(&days(&[1, 2, 3, 4, 5, 6, 7, 1500]), 7, day(1500)), days(&[1]));
        assert_eq!(surplus(&days(&[0, 1, 2, 3, 4, 5, 6, 7]), 7, day(0)), days(&[1]));
        // And right again: the wrong day goes as the oldest does.
        assert_eq!(surplus(&days(&[0, 2, 3, 4, 5, 6, 7, 8]), 7, day(8)), days(&[0]));
    }

    #[test]
    fn a_crash_in_the_middle_of_a_record_costs_that_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let start = 1_800_000_000;
        store.append(&record(start)).unwrap();
        let path = store.path(Day::of(start));
        let length = fs::metadata(&path).unwrap().len();
        store.append(&record(start + 60)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(length + 9).unwrap();
        store.append(&record(start + 120)).unwrap();
        let stored = store.read(&(0..u64::MAX)).unwrap();
        assert_eq!(stored, Stored { records: vec![record(start), record(start + 120)], broken: 1 });
    }
}
