//! Which table each service had, since when and why: what `explain` needs to say who put an owner there, and where a flow
//! went at some time. A table is not kept but what it is computed from.
//!
//! Who knows the seed can open flows that all go to one backend, so it is not in the file: a mark stands for it, by which a
//! start recognises the seed of the config, or of one that the history still has. Where none has it any more, the change is
//! still told, but what slot a flow had then is not.

mod line;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use balancer_common::hash::{self, HashKeys};
use serde::Serialize;

use crate::maglev;
use crate::model::{BackendName, Service, ServiceName, TableSize, Weight};
use crate::plan::flow_keys;
use crate::state::write_private;

pub use self::line::{Mark, seeds_in};

/// Changes that are kept of a service.
const MOST: usize = 200;
/// Of those, how many are looked through for where an owner came from: a table takes milliseconds to compute.
const LOOKED_THROUGH: usize = 32;

/// A table that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub service: ServiceName,
    /// What brought it, such as `weight 300 of web/b1 by uid 0` or `web/b1 is down`.
    pub cause: String,
    /// Stands for the secret.
    pub mark: Mark,
    pub table_size: TableSize,
    pub port_mask: u32,
    /// Weights above 0, in the order of the config.
    pub weights: Vec<(BackendName, Weight)>,
    /// Known of what this controller wrote, and of what it recognised.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

/// What a flow's slot and a slot's owner are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret {
    pub seed: u64,
    /// Of the flow hash.
    pub keys: [u64; 2],
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
    /// The slot of a flow, where the secret is known.
    pub fn slot(&self, flow: &Hashed) -> Option<u32> {
        let [first, second] = self.secret?.keys;
        let hash = hash::of_flow(&HashKeys { first, second }, flow.is_ipv6, &flow.source, flow.ports & self.port_mask);
        Some(hash::slot(hash, self.table_size.get()))
    }

    /// Who new flows of the slot went to.
    pub fn owner(&self, slot: u32) -> Option<&BackendName> {
        let table = maglev::build(self.table_size, self.secret?.seed, &self.weights);
        self.weights.get(usize::from(*table.get(slot as usize)?)).map(|(name, _)| name)
    }

    fn same_mapping(&self, other: &Self) -> bool {
        (&self.mark, self.port_mask, self.table_size) == (&other.mark, other.port_mask, other.table_size)
    }
}

/// Changes of all services, oldest first.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    changes: BTreeMap<ServiceName, VecDeque<Change>>,
    /// Lines of the file; nothing where it is not what it should be.
    lines: Option<usize>,
}

impl Journal {
    /// Reads what an earlier controller wrote; what is no whole line of a change is passed over. `services` and `seed` are
    /// those of the config; `older` gives further seeds, where there are changes of another.
    pub fn open(state_dir: &Path, services: &[Service], seed: u64, older: impl FnOnce() -> Vec<u64>) -> Self {
        let path = state_dir.join("tables.jsonl");
        let read = fs::read(&path).unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                log::error!("what tables were computed from before is not known: reading {}: {error}", path.display());
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&read);
        let mut journal = Self { path, changes: BTreeMap::new(), lines: Some(0) };
        for line in text.lines() {
            match line::read(line) {
                Some((change, is_private)) => {
                    journal.lines = journal.lines.filter(|_| is_private).map(|lines| lines + 1);
                    journal.keep(change);
                }
                None => journal.lines = None,
            }
        }
        if !journal.recognise(services, &[seed]) {
            journal.recognise(services, &older());
        }
        journal.tidy().unwrap_or_else(|error| log::error!("{error:#}"));
        journal
    }

    /// Finds the secrets of changes among those that these seeds make. Whether all are known now that could be.
    fn recognise(&mut self, services: &[Service], seeds: &[u64]) -> bool {
        let mut all = true;
        for service in services {
            let secret = |seed: &u64| Secret { seed: *seed, keys: flow_keys(service, *seed) };
            let secrets: Vec<(Mark, Secret)> =
                seeds.iter().map(secret).map(|secret| (Mark::of(&secret), secret)).collect();
            for change in self.changes.get_mut(&service.name).into_iter().flatten().filter(|c| c.secret.is_none()) {
                change.secret = secrets.iter().find(|(mark, _)| *mark == change.mark).map(|(_, secret)| *secret);
                all &= change.secret.is_some();
            }
        }
        all
    }

    /// Writes the file anew where it holds more than twice what is kept, or what it should not.
    fn tidy(&mut self) -> Result<()> {
        let kept: usize = self.changes.values().map(VecDeque::len).sum();
        if self.lines.is_some_and(|lines| lines <= kept * 2) {
            return Ok(());
        }
        self.lines = None;
        let mut all: Vec<&Change> = self.changes.values().flatten().collect();
        all.sort_by_key(|change| change.generation);
        let lines: Vec<String> = all.into_iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        write_private(&self.path, &text).with_context(|| format!("writing {}", self.path.display()))?;
        self.lines = Some(kept);
        Ok(())
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
        let (mut lines, mut count) = (String::new(), 0);
        for change in changes {
            let last = self.changes.get(&change.service).and_then(VecDeque::back);
            if last.is_some_and(|last| last.same_mapping(&change) && last.weights == change.weights) {
                continue;
            }
            lines += &(serde_json::to_string(&change)? + "\n");
            count += 1;
            self.keep(change);
        }
        if count == 0 {
            return Ok(());
        }
        // A line of which half was written, or one that the disk did not take, is written with all the others.
        if let Some(before) = self.lines.take() {
            let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
            open.and_then(|mut file| file.write_all(lines.as_bytes()))
                .with_context(|| format!("writing {}", self.path.display()))?;
            self.lines = Some(before + count);
        }
        self.tidy()
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
        let Some(owner) = found.owner(slot) else { return Some(found) };
        for older in changes {
            if !older.same_mapping(found) || older.owner(slot) != Some(owner) {
                break;
            }
            found = older;
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests;
