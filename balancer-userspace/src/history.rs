//! Generations: what was brought into force, by whom, when, from what and why. Each record holds the hash of the one
//! before it, so that a changed record shows.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::state::{Overrides, StateDir};

/// One generation that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Who asked; nobody where a signal, the file watcher or a start did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// What was asked for, such as `apply /etc/balancer/new.toml` or `weight web/b1 300`.
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Warnings that were accepted, by identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// What lint found in what was in force with it, by identifier, accepted or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The generation that it brought back, where it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_to: Option<u64>,
    /// SHA-256 of the config file's content, in hexadecimal.
    pub content: String,
    /// Weights and drains set by command that are in force with it.
    #[serde(default)]
    pub overrides: Overrides,
    pub result: Outcome,
    /// Hash of the record before.
    pub previous: String,
    /// SHA-256 of this record without this field, in hexadecimal.
    pub hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// It was in force for a while and was taken back.
    RolledBack,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::RolledBack => "rolled back",
        }
    }
}

impl Record {
    fn sealed(mut self) -> Self {
        self.hash = self.digest();
        self
    }

    fn digest(&self) -> String {
        let record = Self { hash: String::new(), ..self.clone() };
        // A record is numbers, texts and lists: it can always be written.
        digest(&serde_json::to_vec(&record).unwrap_or_default())
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a new record says beside what follows from the ones before.
#[derive(Debug, Clone)]
pub struct Entry {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub uid: Option<u32>,
    pub command: String,
    pub reason: Option<String>,
    pub accepted: Vec<String>,
    pub back_to: Option<u64>,
    pub text: String,
    pub overrides: Overrides,
    pub findings: Vec<String>,
    pub result: Outcome,
}

/// The records of a state directory.
#[derive(Debug)]
pub struct History {
    state: StateDir,
    records: Vec<Record>,
}

impl History {
    pub fn open(state: &StateDir) -> Self {
        Self { state: state.clone(), records: state.generations() }
    }

    /// Oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn last(&self) -> Option<&Record> {
        self.records.last()
    }

    /// Hash of the newest record; empty where there is none.
    pub fn head(&self) -> &str {
        self.last().map_or("", |record| &record.hash)
    }

    pub fn find(&self, generation: u64) -> Option<&Record> {
        self.records.iter().rev().find(|record| record.generation == generation)
    }

    /// The content of the config file of a record.
    ///
    /// # Errors
    /// Where it is gone or was changed.
    pub fn content(&self, record: &Record) -> Result<String> {
        let text = self.state.content(&record.content)?;
        ensure!(
            digest(text.as_bytes()) == record.content,
            "the stored config of generation {} was changed after it was stored",
            record.generation
        );
        Ok(text)
    }

    /// Adds a record. Above `most` the oldest are forgotten, an eighth of them at once: a record is appended to the file, which is
    /// written anew only then. The content is on disk before the record that names it.
    ///
    /// # Errors
    /// Where it can't be written; nothing is added then.
    pub fn add(&mut self, entry: Entry, most: u32) -> Result<()> {
        let content = digest(entry.text.as_bytes());
        self.state.save_content(&content, &entry.text)?;
        let record = Record {
            generation: entry.generation,
            at: entry.at,
            uid: entry.uid,
            command: entry.command,
            reason: entry.reason,
            accepted: entry.accepted,
            findings: entry.findings,
            back_to: entry.back_to,
            content,
            overrides: entry.overrides,
            result: entry.result,
            previous: self.last().map_or_else(String::new, |record| record.hash.clone()),
            hash: String::new(),
        };
        let record = record.sealed();
        let is_known = self.last().is_some_and(|last| last.content == record.content);
        let most = most.max(1) as usize;
        let surplus = (self.records.len() + 1).saturating_sub(most);
        let surplus = if surplus > most / 8 { surplus } else { 0 };
        if surplus > 0 || !self.state.append_generation(&record)? {
            let mut records = self.records.get(surplus..).unwrap_or_default().to_vec();
            records.push(record);
            self.state.save_generations(&records)?;
            self.records = records;
        } else {
            self.records.push(record);
        }
        if surplus > 0 || !is_known {
            let named: BTreeSet<&str> = self.records.iter().map(|record| record.content.as_str()).collect();
            self.state.keep_contents(&named);
        }
        Ok(())
    }

    /// Looks at every record and every stored content on disk, and holds them against what was written from here and
    /// against the head that the generation's file names.
    ///
    /// # Errors
    /// The first that was changed.
    pub fn verify(&self) -> Result<usize> {
        let on_disk: Vec<Record> = self.state.generations();
        let head = self.state.generation().head;
        ensure!(
            head.is_empty() || on_disk.iter().any(|record| record.hash == head || record.previous == head),
            "the newest records were removed or exchanged: generation.json names the head {head}, which the history has not"
        );
        self.verify_chain(&on_disk)?;
        ensure!(
            on_disk == self.records,
            "the history on disk is another than the one that this controller wrote (head {}): records were removed, \
             exchanged or made anew",
            self.head()
        );
        Ok(on_disk.len())
    }

    fn verify_chain(&self, records: &[Record]) -> Result<()> {
        let mut previous: Option<&Record> = None;
        for record in records {
            let number = record.generation;
            ensure!(record.hash == record.digest(), "the record of generation {number} was changed");
            if let Some(before) = previous {
                ensure!(
                    record.previous == before.hash,
                    "generation {number} does not follow generation {}: a record was removed or exchanged",
                    before.generation
                );
            }
            self.content(record)?;
            previous = Some(record);
        }
        Ok(())
    }

    /// What a rollback without a number brings back: the newest record before the present one that differs from what is in
    /// force. After a rollback the present one is the one that it brought back, so that each goes one further.
    pub fn one_back(&self, content: &str, overrides: &Overrides) -> Option<&Record> {
        let applied = || self.records.iter().rev().filter(|record| record.result == Outcome::Applied);
        let differs = |record: &&Record| record.content != content || record.overrides != *overrides;
        let mut present = self.origin(applied().next()?);
        for record in applied() {
            // What was gone through by a rollback is not gone through again.
            if record.generation >= present {
                continue;
            }
            if differs(&record) {
                return Some(record);
            }
            present = self.origin(record).min(present);
        }
        None
    }

    /// The generation that a record stands for: itself, or the one that it brought back.
    pub fn origin(&self, record: &Record) -> u64 {
        record.back_to.filter(|back| *back < record.generation).unwrap_or(record.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u64, text: &str) -> Entry {
        Entry {
            generation,
            at: "2026-11-21T10:00:00Z".to_owned(),
            uid: Some(0),
            command: "apply new.toml".to_owned(),
            reason: None,
            accepted: Vec::new(),
            back_to: None,
            text: text.to_owned(),
            overrides: Overrides::new(),
            findings: Vec::new(),
            result: Outcome::Applied,
        }
    }

    #[test]
    fn records_are_kept_bounded_and_found_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        let mut history = History::open(&state);
        for generation in 1..=5 {
            history.add(entry(generation, &format!("# {generation}")), 3).unwrap();
        }
        let history = History::open(&state);
        let numbers: Vec<u64> = history.records().iter().map(|record| record.generation).collect();
        assert_eq!(numbers, [3, 4, 5]);
        assert_eq!(history.content(history.find(4).unwrap()).unwrap(), "# 4");
        assert!(history.find(2).is_none());
        assert_eq!(history.verify().unwrap(), 3);
        assert_eq!(std::fs::read_dir(directory.path().join("generations")).unwrap().count(), 3);
    }

    #[test]
    fn records_are_appended_and_the_oldest_go_many_at_once() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        let mut history = History::open(&state);
        let (mut files, mut least) = (BTreeSet::new(), usize::MAX);
        for generation in 1..=200 {
            history.add(entry(generation, "# same"), 40).unwrap();
            files.insert((
                std::fs::metadata(directory.path().join("history.json")).unwrap().ino(),
                history.records()[0].generation,
            ));
            assert!(history.records().len() <= 45);
            if generation > 40 {
                least = least.min(history.records().len());
            }
        }
        assert_eq!(least, 40);
        assert!(files.len() <= 29, "written anew: {}", files.len());
        assert_eq!(History::open(&state).verify().unwrap(), history.records().len());
        // A start appends to what is there as well, once it has written it.
        let mut again = History::open(&StateDir::create(directory.path()).unwrap());
        assert_eq!(again.records(), history.records());
        again.add(entry(201, "# other"), 40).unwrap();
        assert_eq!(again.verify().unwrap(), again.records().len());
    }

    /// A record's text, and the generation that it brought back.
    type Brought = (&'static str, Option<u64>);

    fn history(state: &StateDir, records: &[Brought]) -> History {
        let mut history = History::open(state);
        for (number, (text, back_to)) in (1..).zip(records) {
            history.add(Entry { back_to: *back_to, ..entry(number, text) }, 100).unwrap();
        }
        history
    }

    #[test]
    fn each_rollback_goes_one_further_back() {
        let cases: [(&[Brought], Option<u64>); 9] = [
            (&[("a", None)], None),
            (&[("a", None), ("b", None), ("c", None)], Some(2)),
            (&[("a", None), ("b", None), ("c", None), ("b", Some(2))], Some(1)),
            (&[("a", None), ("b", None), ("c", None), ("b", Some(2)), ("a", Some(1))], None),
            // A change after a rollback: first what the rollback brought, then what was before that.
            (&[("a", None), ("b", None), ("c", None), ("b", Some(2)), ("d", None)], Some(4)),
            (&[("a", None), ("b", None), ("c", None), ("b", Some(2)), ("d", None), ("b", Some(2))], Some(1)),
            // The same brought in twice is one.
            (&[("a", None), ("b", None), ("b", None)], Some(1)),
            // Forward by number, then back again.
            (&[("a", None), ("b", None), ("a", Some(1)), ("b", Some(2))], Some(1)),
            (&[("a", None), ("b", None), ("a", None)], Some(2)),
        ];
        for (records, wanted) in cases {
            let directory = tempfile::tempdir().unwrap();
            let state = StateDir::create(directory.path()).unwrap();
            let history = history(&state, records);
            let in_force = digest(records.last().unwrap().0.as_bytes());
            let found = history.one_back(&in_force, &Overrides::new()).map(|record| record.generation);
            assert_eq!(found, wanted, "{records:?}");
        }
    }

    #[test]
    fn what_is_changed_on_disk_while_the_controller_runs_shows() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        let history = history(&state, &[("a", None), ("b", None), ("c", None)]);
        state.save_generation(3, history.head()).unwrap();
        let intact = history.records().to_vec();
        let said = |records: &[Record]| {
            state.save_generations(records).unwrap();
            history.verify().map_err(|error| error.to_string())
        };
        assert_eq!(said(&intact), Ok(3));
        let mut changed = intact.clone();
        changed[1].uid = Some(1000);
        assert!(said(&changed).unwrap_err().contains("the record of generation 2 was changed"));
        assert!(said(&intact[..2]).unwrap_err().contains("the newest records were removed"));
        // A chain that was made anew, as whoever may write the directory can: only the head, kept elsewhere, shows it.
        changed[1] = changed[1].clone().sealed();
        changed[2].previous = changed[1].hash.clone();
        changed[2] = changed[2].clone().sealed();
        assert!(said(&changed).unwrap_err().contains("the newest records were removed or exchanged"));
        state.save_generation(3, &changed[2].hash).unwrap();
        assert!(said(&changed).unwrap_err().contains("another than the one that this controller wrote"));
    }

    #[test]
    fn whatever_is_changed_shows() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        let mut history = History::open(&state);
        for generation in 1..=3 {
            history.add(entry(generation, &format!("# {generation}")), 10).unwrap();
        }
        let intact = history.records().to_vec();
        let said = |records: &[Record]| {
            state.save_generations(records).unwrap();
            History::open(&state).verify().map_err(|error| error.to_string())
        };
        let mut changed = intact.clone();
        changed[1].uid = Some(1000);
        assert!(said(&changed).unwrap_err().contains("the record of generation 2 was changed"));
        let without = [intact[0].clone(), intact[2].clone()];
        assert!(said(&without).unwrap_err().contains("generation 3 does not follow generation 1"));
        assert_eq!(said(&intact), Ok(3));
        let stored = directory.path().join(format!("generations/{}.toml", intact[2].content));
        std::fs::write(stored, "# other").unwrap();
        assert!(said(&intact).unwrap_err().contains("stored config of generation 3 was changed"));
    }
}
