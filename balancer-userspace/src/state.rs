//! What outlives the controller on disk: weights and drains set by command, which index of the kernel's maps belongs
//! to whom, how healthy backends were, and the history. Each file is written whole to a new name and renamed over the old, but
//! the history, to which records are appended; what must survive a loss of power, which the kernel's maps do not, is synced.
//!
//! What is *saved* is on disk, or the caller is told that it is not, and decides. What is *kept* is in force at once, and is
//! written as soon as the disk takes it: a disk that is full, read-only or gone stops no forwarding. A file that is damaged
//! stops nothing either: it is moved aside, and an alarm names it.

mod disk;
mod private;
mod replace;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use balancer_common::slot::BackendIndex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::disk::{Disk, File};
pub use self::private::{leftovers, make_private};
pub(crate) use self::replace::write_private;
use self::replace::{Durable, write_whole};
pub use self::replace::{StagedFile, replace_file, stage_file};
pub use self::writing::Writing;
use crate::dataplane::Counters;
use crate::health::Health;
use crate::model::{BackendId, ServiceName};

/// What a command put over the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    #[serde(default)]
    pub weight: Option<u32>,
    /// The file's weight when the command came: once the file says something else, the file is newer.
    pub file_weight: u32,
    #[serde(default)]
    pub drained: bool,
    pub by_uid: u32,
    /// RFC 3339, UTC.
    pub at: String,
}

/// A finding in what is in force that somebody accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub id: String,
    /// As in the finding: `web` or `web/b1`.
    pub subject: Option<String>,
    /// How bad it was then.
    pub degree: f64,
    pub by_uid: u32,
    /// RFC 3339, UTC.
    pub at: String,
    pub reason: String,
}

pub type Overrides = BTreeMap<BackendId, Override>;

/// A config and what commands had set over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    pub text: String,
    pub overrides: Overrides,
    /// The change that it is the way back from.
    pub command: String,
    /// SHA-256 of what the config file held when the change came in, and of what it put there: a file with other content is
    /// newer than both.
    #[serde(default)]
    pub known: Vec<String>,
}

/// Who has which place in the kernel's maps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocations {
    /// Of the maps that these places are in.
    pub instance: u64,
    /// Numbers of services.
    pub services: BTreeMap<ServiceName, u16>,
    pub backends: BTreeMap<BackendId, Allocated>,
    /// Backends that the config has no more, or has elsewhere, while established flows of theirs may be about.
    #[serde(default)]
    pub leaving: Vec<Leaving>,
    /// Backends that are past their service's gate, and where they were then.
    #[serde(default)]
    pub passed: BTreeMap<BackendId, IpAddr>,
}

impl Allocations {
    /// Backends of a service, without looking at the others.
    pub fn of_service<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = (&'a BackendId, &'a Allocated)> {
        self.backends.range(BackendId::first_of(service)..).take_while(move |(id, _)| id.service == *service)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    pub id: BackendId,
    #[serde(flatten)]
    pub allocated: Allocated,
    /// When it left, in the units of [`balancer_common::clock`].
    pub since: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocated {
    pub index: BackendIndex,
    /// What the backend had been sent before it got this index.
    #[serde(default)]
    pub base: Counters,
    /// What the entry in the kernel says that no next hop changes: another text is another index.
    pub identity: String,
}

/// The last applied state, and the hash of the history's newest record then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGeneration {
    pub generation: u64,
    #[serde(default)]
    pub head: String,
}

/// As it is written, and as earlier versions wrote it.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenGeneration {
    Number(u64),
    Whole(LastGeneration),
}

impl Default for WrittenGeneration {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl From<WrittenGeneration> for LastGeneration {
    fn from(written: WrittenGeneration) -> Self {
        match written {
            WrittenGeneration::Number(generation) => Self { generation, head: String::new() },
            WrittenGeneration::Whole(last) => last,
        }
    }
}

pub type Healths = BTreeMap<BackendId, Health>;

/// Its files.
const OVERRIDES: File = File::durable("overrides.json", "weights and drains set by command are not in force");
const ALLOCATIONS: File = File::of_the_kernel("kernel.json", "who had which place in the kernel's maps is not known");
const GENERATION: File = File::of_the_kernel("generation.json", "the number of the generation starts again");
const HEALTHS: File = File::of_the_kernel("health.json", "every backend is checked anew");
const GUARD: File = File::durable("guard.json", "a guarded change that nobody confirmed stays in force");
const ACCEPTED: File = File::durable("accepted.json", "alarms come of findings that somebody accepted before");
const HISTORY: File = File::durable("history.json", "the history starts anew, and nothing older can be rolled back to");
/// Directory of the contents of config files.
const CONTENTS: &str = "generations";

#[derive(Debug, Clone)]
pub struct StateDir {
    disk: Arc<Disk>,
}

impl StateDir {
    /// Makes the directory where it is not there. Where the disk does not allow that now, that is a trouble and no error.
    ///
    /// # Errors
    /// Where the path can't be one of a directory.
    pub fn create(path: &Path) -> Result<Self> {
        let disk = Disk::open(path).with_context(|| format!("making `node.state_dir` = {}", path.display()))?;
        writing::prepare();
        Ok(Self { disk: Arc::new(disk) })
    }

    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// Why the last write failed, while that lasts.
    pub fn trouble(&self) -> Option<String> {
        self.disk.trouble()
    }

    /// Damaged files that were moved aside and are still there, each with what that means.
    pub fn damaged(&self) -> Vec<String> {
        self.disk.damaged()
    }

    /// Tries now and then whether the directory can be written, and writes what it does not have yet.
    pub fn look_after(&self, now: Instant) {
        self.disk.look_after(now);
    }

    pub fn overrides(&self) -> Overrides {
        self.disk.read(OVERRIDES)
    }

    /// # Errors
    /// Where they are not on disk.
    pub fn save_overrides(&self, overrides: &Overrides) -> Result<()> {
        self.disk.save(OVERRIDES, overrides)
    }

    /// The same beside what the caller does meanwhile.
    pub fn begin_overrides(&self, overrides: &Overrides) -> Writing {
        let (disk, overrides) = (Arc::clone(&self.disk), overrides.clone());
        Writing::begin(move || disk.save(OVERRIDES, &overrides))
    }

    /// Findings that somebody accepted.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.disk.read(ACCEPTED)
    }

    pub fn keep_accepted(&self, accepted: &[Accepted]) {
        self.disk.keep(ACCEPTED, &accepted);
    }

    pub fn allocations(&self) -> Allocations {
        self.disk.read(ALLOCATIONS)
    }

    /// # Errors
    /// Where they are not on disk.
    pub fn save_allocations(&self, allocations: &Allocations) -> Result<()> {
        self.disk.save(ALLOCATIONS, allocations)
    }

    /// The last applied state; number 0 before the first.
    pub fn generation(&self) -> LastGeneration {
        self.disk.read::<WrittenGeneration>(GENERATION).into()
    }

    /// # Errors
    /// Where it is not on disk.
    pub fn save_generation(&self, generation: u64, head: &str) -> Result<()> {
        self.disk.save(GENERATION, &LastGeneration { generation, head: head.to_owned() })
    }

    pub fn healths(&self) -> Healths {
        self.disk.read(HEALTHS)
    }

    pub fn keep_healths(&self, healths: &Healths) {
        self.disk.keep(HEALTHS, healths);
    }

    /// What a guarded change that nobody has confirmed is to go back to.
    pub fn guard(&self) -> Option<Fallback> {
        self.disk.read(GUARD)
    }

    /// # Errors
    /// Where it is not on disk.
    pub fn save_guard(&self, fallback: Option<&Fallback>) -> Result<()> {
        self.disk.save(GUARD, &fallback)
    }

    /// Records of the history, oldest first.
    pub fn generations<Record: DeserializeOwned>(&self) -> Vec<Record> {
        self.disk.read_lines(HISTORY)
    }

    /// # Errors
    /// Where they are not on disk.
    pub fn save_generations<Record: Serialize>(&self, records: &[Record]) -> Result<()> {
        self.disk.save_lines(HISTORY, records)
    }

    /// One more record, behind those that were saved last. Answers `false` where all of them must be saved.
    ///
    /// # Errors
    /// Where it is not on disk.
    pub fn append_generation<Record: Serialize>(&self, record: &Record) -> Result<bool> {
        self.disk.append_line(HISTORY, record)
    }

    /// The content of a config file that was in force, by its SHA-256.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn content(&self, digest: &str) -> Result<String> {
        let path = self.content_path(digest);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// # Errors
    /// Where it is not on disk.
    pub fn save_content(&self, digest: &str, text: &str) -> Result<()> {
        let path = self.content_path(digest);
        if path.exists() {
            return Ok(());
        }
        let written = private::make_directory(&self.path().join(CONTENTS))
            .and_then(|()| write_whole(&path, text.as_bytes(), Durable::Yes));
        self.disk.noted(written).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes contents that no record names. While a damaged history lies beside, its contents stay as well.
    pub fn keep_contents(&self, digests: &BTreeSet<&str>) {
        if self.disk.has_damaged(HISTORY) {
            return;
        }
        for entry in fs::read_dir(self.path().join(CONTENTS)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name.to_str().and_then(|name| name.strip_suffix(".toml")).is_some_and(|n| digests.contains(n));
            if !kept {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// All contents that are stored.
    pub fn contents(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(CONTENTS)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
    }

    fn content_path(&self, digest: &str) -> PathBuf {
        self.path().join(CONTENTS).join(format!("{digest}.toml"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        assert_eq!(state.allocations(), Allocations::default());
        let mut allocations = Allocations { instance: 7, ..Allocations::default() };
        allocations.services.insert("web".parse().unwrap(), 3);
        allocations.backends.insert(
            "web/a".parse().unwrap(),
            Allocated { index: 9, base: Counters::default(), identity: "l2 192.0.2.1".to_owned() },
        );
        let allocated = Allocated { index: 8, base: Counters::default(), identity: "l2 192.0.2.2".to_owned() };
        allocations.leaving.push(Leaving { id: "web/b".parse().unwrap(), allocated, since: 5 });
        state.save_allocations(&allocations).unwrap();
        assert_eq!(state.allocations(), allocations);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        fs::write(directory.path().join("kernel.json"), "").unwrap();
        assert_eq!(state.allocations(), Allocations::default(), "lost with the maps it spoke of");
        assert_eq!(state.damaged(), Vec::<String>::new(), "a loss of power leaves empty files");
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        let damages: [(&str, &[u8]); 4] = [
            ("overrides.json", b"{"),
            ("guard.json", b"{\"text\": \"\xff\"}"),
            ("history.json", b"\xff\xfe"),
            ("kernel.json", b"[1, 2]"),
        ];
        for (name, bytes) in damages {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        state.save_content("1", "# old").unwrap();
        assert_eq!((state.overrides(), state.guard()), (Overrides::new(), None));
        assert_eq!((state.generations(), state.allocations()), (Vec::<String>::new(), Allocations::default()));
        let damaged = StateDir::create(directory.path()).unwrap().damaged();
        assert_eq!(damaged.len(), 4, "{damaged:?}");
        for ((name, bytes), said) in damages.iter().zip(["set by command", "guarded", "history starts", "which place"])
        {
            assert!(damaged.iter().any(|one| one.starts_with(name) && one.contains(said)), "{name}: {damaged:?}");
            let files = fs::read_dir(directory.path()).unwrap().flatten();
            let aside = files.map(|file| file.path()).find(|path| path.display().to_string().contains(name)).unwrap();
            assert_eq!(&fs::read(&aside).unwrap(), bytes);
        }
        // What the damaged history may speak of stays.
        state.save_overrides(&Overrides::new()).unwrap();
        state.keep_contents(&BTreeSet::new());
        assert_eq!(state.content("1").unwrap(), "# old");
    }

    /// A directory that takes nothing more, for root as well.
    #[test]
    fn what_a_disk_does_not_take_is_written_once_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let (path, away) = (directory.path().join("state"), directory.path().join("away"));
        let state = StateDir::create(&path).unwrap();
        state.keep_healths(&Healths::default());
        assert_eq!(state.trouble(), None);
        fs::rename(&path, &away).unwrap();
        let start = Instant::now();
        state.look_after(start);
        assert!(state.trouble().unwrap().contains("No such file"), "{:?}", state.trouble());
        let healths = Healths::from([("web/a".parse().unwrap(), Health::Up)]);
        state.keep_healths(&healths);
        assert!(state.save_overrides(&Overrides::new()).is_err(), "whoever asks is told");
        fs::create_dir(&path).unwrap();
        state.look_after(start + std::time::Duration::from_secs(60));
        assert_eq!(state.trouble(), None);
        assert_eq!(StateDir::create(&path).unwrap().healths(), healths);
    }

    #[test]
    fn after_a_write_that_failed_nothing_is_taken_to_be_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (path, away) = (directory.path().join("state"), directory.path().join("away"));
        let state = StateDir::create(&path).unwrap();
        state.save_generation(1, "").unwrap();
        let before = fs::read(path.join("generation.json")).unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(state.save_generation(2, "").is_err());
        fs::rename(&away, &path).unwrap();
        // As where the file was put in its place and the directory could not be synced.
        fs::write(path.join("generation.json"), vec![b' '; before.len()]).unwrap();
        state.save_generation(1, "").unwrap();
        assert_eq!(fs::read(path.join("generation.json")).unwrap(), before);
    }

    #[test]
    fn nobody_else_reads_what_is_written() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        for (name, text) in [("overrides.json", "{}"), ("tables.jsonl", "")] {
            fs::write(path.join(name), text).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        make_private(&path);
        let state = StateDir::create(&path).unwrap();
        state.save_overrides(&Overrides::new()).unwrap();
        state.save_content("1", "# seed").unwrap();
        assert_eq!([mode(""), mode("generations")], [0o700, 0o700]);
        assert_eq!([mode("overrides.json"), mode("tables.jsonl"), mode("generations/1.toml")], [0o600; 3]);
        // A directory with what others put there is theirs as well.
        fs::write(path.join("theirs"), "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&path);
        assert_eq!(mode(""), 0o755);
    }
}
