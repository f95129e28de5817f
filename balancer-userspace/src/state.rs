//! What outlives the controller on disk: weights and drains set by command, which index of the kernel's maps belongs
//! to whom, and how healthy backends were. Each file is written whole to a new name and renamed over the old; what must
//! survive a loss of power, which the kernel's maps do not, is synced before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use balancer_common::slot::BackendIndex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dataplane::Counters;
use crate::health::Health;
use crate::history::Record;
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

pub type Overrides = BTreeMap<BackendId, Override>;

/// A config and what commands had set over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    pub text: String,
    pub overrides: Overrides,
    /// The change that it is the way back from.
    pub command: String,
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

pub type Healths = BTreeMap<BackendId, Health>;

/// Whether a file must survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("making `node.state_dir` = {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    pub fn overrides(&self) -> Result<Overrides> {
        self.read("overrides.json", Durable::Yes)
    }

    pub fn save_overrides(&self, overrides: &Overrides) -> Result<()> {
        self.write("overrides.json", overrides, Durable::Yes)
    }

    pub fn allocations(&self) -> Result<Allocations> {
        self.read("kernel.json", Durable::No)
    }

    pub fn save_allocations(&self, allocations: &Allocations) -> Result<()> {
        self.write("kernel.json", allocations, Durable::No)
    }

    /// Number of the last applied state; 0 before the first.
    pub fn generation(&self) -> Result<u64> {
        self.read("generation.json", Durable::No)
    }

    pub fn save_generation(&self, generation: u64) -> Result<()> {
        self.write("generation.json", &generation, Durable::No)
    }

    pub fn healths(&self) -> Result<Healths> {
        self.read("health.json", Durable::No)
    }

    pub fn save_healths(&self, healths: &Healths) -> Result<()> {
        self.write("health.json", healths, Durable::No)
    }

    /// What a guarded change that nobody has confirmed is to go back to.
    pub fn guard(&self) -> Result<Option<Fallback>> {
        self.read("guard.json", Durable::Yes)
    }

    pub fn save_guard(&self, fallback: Option<&Fallback>) -> Result<()> {
        self.write("guard.json", &fallback, Durable::Yes)
    }

    /// Generations, oldest first.
    pub fn generations(&self) -> Result<Vec<Record>> {
        self.read("history.json", Durable::Yes)
    }

    pub fn save_generations(&self, records: &[Record]) -> Result<()> {
        self.write("history.json", &records, Durable::Yes)
    }

    /// The content of a config file that was in force, by its SHA-256.
    pub fn content(&self, digest: &str) -> Result<String> {
        let path = self.content_path(digest);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    pub fn save_content(&self, digest: &str, text: &str) -> Result<()> {
        let path = self.content_path(digest);
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(self.path.join(CONTENTS))?;
        write_whole(&path, text.as_bytes(), Durable::Yes).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes contents that no record names.
    pub fn keep_contents(&self, digests: &BTreeSet<&str>) {
        for entry in fs::read_dir(self.path.join(CONTENTS)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let kept = name.to_str().and_then(|name| name.strip_suffix(".toml")).is_some_and(|n| digests.contains(n));
            if !kept {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn content_path(&self, digest: &str) -> PathBuf {
        self.path.join(CONTENTS).join(format!("{digest}.toml"))
    }

    fn read<T: DeserializeOwned + Default>(&self, name: &str, durable: Durable) -> Result<T> {
        let path = self.path.join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
            other => other.with_context(|| format!("reading {}", path.display()))?,
        };
        match serde_json::from_str(&text) {
            Ok(value) => Ok(value),
            // Lost with the power, and so are the kernel's maps that it speaks of.
            Err(error) if durable == Durable::No => {
                log::warn!("{} is damaged and ignored: {error}", path.display());
                Ok(T::default())
            }
            Err(error) => {
                Err(error).with_context(|| format!("{} is damaged; move it away to start without it", path.display()))
            }
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durable: Durable) -> Result<()> {
        let path = self.path.join(name);
        let attempt = || write_whole(&path, &serde_json::to_vec(value)?, durable);
        attempt().with_context(|| format!("writing {}", path.display()))
    }
}

/// Directory of the contents of config files.
const CONTENTS: &str = "generations";

/// Puts a file in the place of another of this name, which keeps its mode.
pub fn replace_file(path: &Path, text: &str) -> Result<()> {
    // Where the path is a link, what it points to is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    write_whole(&path, text.as_bytes(), Durable::Yes).with_context(|| format!("writing {}", path.display()))
}

fn write_whole(path: &Path, bytes: &[u8], durable: Durable) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".balancer-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    if let Ok(before) = fs::metadata(path) {
        file.as_file().set_permissions(before.permissions())?;
    }
    if durable == Durable::Yes {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if durable == Durable::Yes {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back_and_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(directory.path()).unwrap();
        assert_eq!(state.allocations().unwrap(), Allocations::default());
        let mut allocations = Allocations { instance: 7, ..Allocations::default() };
        allocations.services.insert("web".parse().unwrap(), 3);
        allocations.backends.insert(
            "web/a".parse().unwrap(),
            Allocated { index: 9, base: Counters::default(), identity: "l2 192.0.2.1".to_owned() },
        );
        let allocated = Allocated { index: 8, base: Counters::default(), identity: "l2 192.0.2.2".to_owned() };
        allocations.leaving.push(Leaving { id: "web/b".parse().unwrap(), allocated, since: 5 });
        state.save_allocations(&allocations).unwrap();
        assert_eq!(state.allocations().unwrap(), allocations);
        fs::write(directory.path().join("overrides.json"), "{").unwrap();
        let error = format!("{:#}", state.overrides().unwrap_err());
        assert!(error.contains("overrides.json is damaged"), "{error}");
        fs::write(directory.path().join("kernel.json"), "").unwrap();
        assert_eq!(state.allocations().unwrap(), Allocations::default(), "lost with the maps it spoke of");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
