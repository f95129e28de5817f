//! The files of the state directory, each a JSON document, and what is done where the disk does not take or give them.

mod lines;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::private::make_directory;
use super::replace::{Durable, PREFIX, write_whole};
use crate::regular;

/// How often it is tried whether the directory can be written.
const LOOK: Duration = Duration::from_secs(10);
/// The same while it can't.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// What a try writes; less may find room on a disk that is full.
const TRIED_BYTES: [u8; 4096] = [0; 4096];
/// No file of ours is larger.
const MOST_BYTES: u64 = 1 << 30;
/// Between the name of a damaged file and when it was moved aside.
const DAMAGED: &str = ".damaged-";

/// A file of the directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    name: &'static str,
    durable: Durable,
    /// What is so without it.
    without: &'static str,
}

impl File {
    /// Must survive a loss of power.
    pub(super) const fn durable(name: &'static str, without: &'static str) -> Self {
        Self { name, durable: Durable::Yes, without }
    }

    /// Speaks of the kernel's maps, and may be lost with them.
    pub(super) const fn of_the_kernel(name: &'static str, without: &'static str) -> Self {
        Self { name, durable: Durable::No, without }
    }
}

/// What a file should hold.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    durable: Durable,
    is_written: bool,
}

#[derive(Debug, Default)]
struct Known {
    held: BTreeMap<&'static str, Held>,
    trouble: Option<String>,
    next: Option<Instant>,
    damaged: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    known: Mutex<Known>,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let disk = Self { path: path.to_owned(), known: Mutex::default() };
        match make_directory(path) {
            Err(error) if is_of_the_path(&error) => return Err(error.into()),
            outcome => drop(disk.noted(outcome)),
        }
        disk.known().damaged = disk.find_damaged();
        Ok(disk)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that holds it leaves half of a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.known().trouble.clone()
    }

    pub(super) fn damaged(&self) -> Vec<String> {
        self.known().damaged.clone()
    }

    pub(super) fn has_damaged(&self, file: File) -> bool {
        self.find_damaged().iter().any(|said| said.starts_with(file.name))
    }

    /// Keeps in mind why a write failed.
    pub(super) fn noted(&self, outcome: std::io::Result<()>) -> std::io::Result<()> {
        if let Err(error) = &outcome {
            let mut known = self.known();
            if known.trouble.is_none() {
                log::error!("{} can't be written: {error}", self.path.display());
                known.next = None;
            }
            known.trouble = Some(format!("{}: {error}", self.path.display()));
        }
        outcome
    }

    /// What the file holds; the default where it is not there or is damaged, which is moved aside then.
    pub(super) fn read<T: DeserializeOwned + Default>(&self, file: File) -> T {
        self.read_with(file, |bytes| serde_json::from_slice(bytes))
    }

    fn read_with<T: Default>(&self, file: File, parse: impl Fn(&[u8]) -> serde_json::Result<T>) -> T {
        let path = self.path.join(file.name);
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return T::default();
        }
        let read = match regular::bytes(&path, MOST_BYTES) {
            Err(why) => Err(format!("it {why}")),
            // Lost with the power, and so are the kernel's maps that it speaks of.
            Ok(bytes) if file.durable == Durable::No && bytes.iter().all(|byte| *byte == 0) => return T::default(),
            Ok(bytes) => parse(&bytes).map_err(|error| error.to_string()),
        };
        read.unwrap_or_else(|why| {
            self.move_aside(file, &why);
            T::default()
        })
    }

    fn move_aside(&self, file: File, why: &str) {
        let path = self.path.join(file.name);
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let aside = self.path.join(format!("{}{DAMAGED}{}", file.name, now.replace(['-', ':'], "")));
        let moved = match fs::rename(&path, &aside) {
            Ok(()) => format!("it was moved to {}", aside.display()),
            Err(error) => format!("it could not be moved aside: {error}"),
        };
        log::error!("{} is damaged ({why}): {}; {moved}", path.display(), file.without);
        self.known().damaged = self.find_damaged();
    }

    /// Such as "guard.json was damaged and moved to guard.json.damaged-20261125T180000Z: …".
    fn find_damaged(&self) -> Vec<String> {
        let files = [
            super::OVERRIDES,
            super::ALLOCATIONS,
            super::GENERATION,
            super::HEALTHS,
            super::GUARD,
            super::ACCEPTED,
            super::HISTORY,
        ];
        let said = |name: &str| {
            let (of, _) = name.split_once(DAMAGED)?;
            let file = files.iter().find(|file| file.name == of)?;
            Some(format!("{of} was damaged and moved to {name}: {}", file.without))
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut damaged: Vec<String> = entries.filter_map(|entry| said(entry.file_name().to_str()?)).collect();
        damaged.sort_unstable();
        damaged
    }

    /// On disk, or nothing has changed.
    pub(super) fn save<T: Serialize>(&self, file: File, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).with_context(|| format!("writing {}", file.name))?;
        self.save_bytes(file, bytes)
    }

    fn save_bytes(&self, file: File, bytes: Vec<u8>) -> Result<()> {
        let path = self.path.join(file.name);
        let is_held = |held: &Held| held.is_written && held.bytes == bytes;
        let is_there = || fs::metadata(&path).is_ok_and(|about| about.len() == bytes.len() as u64);
        if self.known().held.get(file.name).is_some_and(is_held) && is_there() {
            return Ok(());
        }
        let written = self.noted(write_whole(&path, &bytes, file.durable));
        if written.is_err()
            && let Some(held) = self.known().held.get_mut(file.name)
        {
            // It may be in its place all the same, and only not synced: what was there before is written again.
            held.is_written = false;
        }
        written.with_context(|| format!("writing {}", path.display()))?;
        self.known().held.insert(file.name, Held { bytes, durable: file.durable, is_written: true });
        Ok(())
    }

    /// In force from now on, and on disk as soon as the disk takes it.
    pub(super) fn keep<T: Serialize>(&self, file: File, value: &T) {
        let bytes = match serde_json::to_vec(value) {
            Ok(bytes) => bytes,
            Err(error) => return log::error!("{} can't be written: {error}", file.name),
        };
        let is_written = self.noted(write_whole(&self.path.join(file.name), &bytes, file.durable)).is_ok();
        self.known().held.insert(file.name, Held { bytes, durable: file.durable, is_written });
    }

    pub(super) fn look_after(&self, now: Instant) {
        if self.known().next.is_some_and(|next| now < next) {
            return;
        }
        let outcome = self.try_to_write().and_then(|()| self.write_what_is_missing());
        let damaged = self.find_damaged();
        let mut known = self.known();
        known.damaged = damaged;
        known.next = Some(now + if outcome.is_ok() { LOOK } else { LOOK_AGAIN });
        match outcome {
            Ok(()) if known.trouble.take().is_some() => log::info!("{} can be written again", self.path.display()),
            Ok(()) => {}
            Err(error) => {
                if known.trouble.is_none() {
                    log::error!("{} can't be written: {error}", self.path.display());
                }
                known.trouble = Some(format!("{}: {error}", self.path.display()));
            }
        }
    }

    /// Leaves nothing behind.
    fn try_to_write(&self) -> std::io::Result<()> {
        tempfile::Builder::new().prefix(PREFIX).tempfile_in(&self.path)?.write_all(&TRIED_BYTES)
    }

    /// What the disk did not take, and what somebody removed.
    fn write_what_is_missing(&self) -> std::io::Result<()> {
        let mut known = self.known();
        for (name, held) in &mut known.held {
            let path = self.path.join(name);
            if !held.is_written || !path.exists() {
                held.is_written = false;
                write_whole(&path, &held.bytes, held.durable)?;
                held.is_written = true;
            }
        }
        Ok(())
    }
}

/// Whether somebody must correct the path, whatever the disk does.
fn is_of_the_path(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::InvalidFilename
    )
}
