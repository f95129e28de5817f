//! Which table each service had, since when and why: what `explain` needs to say who put an owner there, and where a flow
//! went at some time. A table is not kept but what it is computed from.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use balancer_common::hash::{self, HashKeys};
use serde::{Deserialize, Serialize};

use crate::maglev;
use crate::model::{BackendName, ServiceName, TableSize, Weight};
use crate::state::replace_file;

/// Changes that are kept of a service.
const MOST: usize = 200;
/// Of those, how many are looked through for where an owner came from: a table takes milliseconds to compute.
const LOOKED_THROUGH: usize = 32;

/// A table that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub service: ServiceName,
    /// What brought it, such as `weight 300 of web/b1 by uid 0` or `web/b1 is down`.
    pub cause: String,
    pub seed: u64,
    pub table_size: TableSize,
    /// Of the flow hash.
    pub keys: [u64; 2],
    pub port_mask: u32,
    /// Weights above 0, in the order of the config.
    pub weights: Vec<(BackendName, Weight)>,
}

/// What of a flow decides on its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    pub is_ipv6: bool,
    pub source: [u32; 4],
    /// As [`balancer_common::parse::ports`] makes them.
    pub ports: u32,
}

impl Change {
    /// The slot of a flow.
    pub fn slot(&self, flow: &Hashed) -> u32 {
        let keys = HashKeys { first: self.keys[0], second: self.keys[1] };
        let hash = hash::of_flow(&keys, flow.is_ipv6, &flow.source, flow.ports & self.port_mask);
        hash::slot(hash, self.table_size.get())
    }

    /// Who new flows of the slot went to.
    pub fn owner(&self, slot: u32) -> Option<&BackendName> {
        let table = maglev::build(self.table_size, self.seed, &self.weights);
        self.weights.get(usize::from(*table.get(slot as usize)?)).map(|(name, _)| name)
    }

    fn same_mapping(&self, other: &Self) -> bool {
        (self.keys, self.port_mask, self.table_size) == (other.keys, other.port_mask, other.table_size)
    }
}

/// Changes of all services, oldest first.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    changes: BTreeMap<ServiceName, VecDeque<Change>>,
}

impl Journal {
    /// Reads what an earlier controller wrote; a line that was cut off is passed over.
    ///
    /// # Errors
    /// Where the file can't be read or written.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("tables.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let mut journal = Self { path, changes: BTreeMap::new() };
        let mut read = 0;
        for change in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            read += 1;
            journal.keep(change);
        }
        let kept: usize = journal.changes.values().map(VecDeque::len).sum();
        if read > kept * 2 || (!text.is_empty() && !text.ends_with('\n')) {
            let mut all: Vec<&Change> = journal.changes.values().flatten().collect();
            all.sort_by_key(|change| change.generation);
            let lines: Vec<String> = all.into_iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            // A disk that takes nothing keeps no controller from starting.
            if let Err(error) = replace_file(&journal.path, &(lines.join("\n") + "\n")) {
                log::warn!("{error:#}");
            }
        }
        Ok(journal)
    }

    fn keep(&mut self, change: Change) {
        let of_service = self.changes.entry(change.service.clone()).or_default();
        if of_service.len() == MOST {
            of_service.pop_front();
        }
        of_service.push_back(change);
    }

    /// Appends changes that came into force together; those that change nothing are left out.
    ///
    /// # Errors
    /// Where the file can't be written; they are kept in memory all the same.
    pub fn note(&mut self, changes: Vec<Change>) -> Result<()> {
        let mut lines = String::new();
        for change in changes {
            let last = self.changes.get(&change.service).and_then(VecDeque::back);
            if last.is_some_and(|last| last.same_mapping(&change) && last.weights == change.weights) {
                continue;
            }
            lines += &(serde_json::to_string(&change)? + "\n");
            self.keep(change);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = file.as_mut().map_err(|error| std::io::Error::from(error.kind()));
        written
            .and_then(|file| file.write_all(lines.as_bytes()))
            .with_context(|| format!("writing {}", self.path.display()))
    }

    /// The table in force at a time.
    pub fn at(&self, service: &ServiceName, time: SystemTime) -> Option<&Change> {
        let time = humantime::format_rfc3339_millis(time).to_string();
        self.changes.get(service)?.iter().rev().find(|change| change.at <= time)
    }

    /// The highest generation that it names; 0 where it names none.
    pub fn highest_generation(&self) -> u64 {
        self.changes.values().flatten().map(|change| change.generation).max().unwrap_or(0)
    }

    /// The oldest that is known of a service.
    pub fn oldest(&self, service: &ServiceName) -> Option<&Change> {
        self.changes.get(service)?.front()
    }

    /// The change that gave the slot the owner that it has. With older changes than are looked through, the oldest of those.
    pub fn put_there(&self, service: &ServiceName, slot: u32) -> Option<&Change> {
        let mut changes = self.changes.get(service)?.iter().rev().take(LOOKED_THROUGH);
        let mut found = changes.next()?;
        let owner = found.owner(slot);
        for older in changes {
            if !older.same_mapping(found) || older.owner(slot) != owner {
                break;
            }
            found = older;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(generation: u64, weights: &[u32]) -> Change {
        let named =
            |(place, weight): (usize, &u32)| (format!("b{place}").parse().unwrap(), Weight::new(*weight).unwrap());
        Change {
            generation,
            at: format!("2026-11-21T10:00:{generation:02}.000Z"),
            service: "web".parse().unwrap(),
            cause: format!("change {generation}"),
            seed: 1,
            table_size: TableSize::new(1009).unwrap(),
            keys: [1, 2],
            port_mask: u32::MAX,
            weights: weights.iter().enumerate().map(named).collect(),
        }
    }

    #[test]
    fn an_owner_came_with_the_change_after_the_last_other_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        let service = "web".parse().unwrap();
        for (generation, weights) in [(1, [1, 1]), (2, [1, 3]), (3, [1, 3]), (4, [1, 9]), (5, [2, 9])] {
            journal.note(vec![change(generation, &weights)]).unwrap();
        }
        let again = Journal::open(directory.path()).unwrap();
        assert_eq!(again.changes, journal.changes);
        assert_eq!(journal.changes[&service].len(), 4, "one changed nothing");
        for slot in 0..1009 {
            let owners: Vec<_> = journal.changes[&service].iter().map(|change| change.owner(slot).cloned()).collect();
            let since = (1..owners.len()).rev().find(|place| owners[*place] != owners[place - 1]).unwrap_or(0);
            assert_eq!(journal.put_there(&service, slot).unwrap(), &journal.changes[&service][since]);
        }
        let time = humantime::parse_rfc3339("2026-11-21T10:00:03.500Z").unwrap();
        assert_eq!(journal.at(&service, time).unwrap().generation, 2);
        assert_eq!(journal.at(&service, SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.note(vec![change(1, &[1, 1])]).unwrap();
        let path = directory.path().join("tables.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.clone() + &text[..40]).unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.note(vec![change(2, &[1, 2])]).unwrap();
        let again = Journal::open(directory.path()).unwrap();
        assert_eq!(again.changes[&"web".parse().unwrap()].len(), 2);
    }
}
