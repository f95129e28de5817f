//! The config file on disk, where it is to be followed by itself: the kernel tells of changes to it and to every name on
//! the way to it, and it is looked at each second all the same, because not every file system tells.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::pending;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;

use super::settling::{Print, Settling, Told};
use super::way;

/// How often the file is looked at without being told of anything.
const LOOK: Duration = Duration::from_secs(1);

/// What a watch is on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    /// The file that the path leads to, by whatever name it is written.
    File,
    /// The names in a directory that lie on the way.
    Directory(Vec<OsString>),
}

/// Follows one path.
pub(crate) struct FileWatcher {
    path: PathBuf,
    kernel: AsyncFd<OwnedFd>,
    /// By number of the kernel's watch.
    watches: BTreeMap<i32, Watched>,
    settling: Settling,
    is_open: bool,
    /// When the file is looked at next, whatever is told until then.
    next: Instant,
    /// The comparison that last found the file to differ.
    suspected: Option<u64>,
}

impl FileWatcher {
    /// `read`: the file as it was when it was read last.
    ///
    /// # Errors
    /// Where the kernel has no more watchers to give.
    pub(crate) fn new(path: &Path, read: Option<Print>) -> Result<Self> {
        let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).context("watching files")?;
        // SAFETY: the watcher owns the descriptor, which therefore lives as long as the registration.
        let kernel = unsafe { AsyncFd::register_with_interest(kernel, Interest::READABLE) }
            .map_err(|error| anyhow::anyhow!("watching files: {error:?}"))?;
        let mut watcher = Self {
            path: path.to_owned(),
            kernel,
            watches: BTreeMap::new(),
            settling: Settling::new(read),
            is_open: false,
            next: Instant::now(),
            suspected: None,
        };
        watcher.watch_the_way();
        Ok(watcher)
    }

    /// A comparison found that the file is not what runs, although nothing refused it. Each counts once.
    pub(crate) fn suspect(&mut self, comparison: u64) {
        if self.suspected != Some(comparison) {
            self.suspected = Some(comparison);
            self.settling.suspect();
        }
    }

    /// Ends once the file is another than before and is whole. May be dropped at any time without losing a change.
    async fn changed(&mut self) {
        loop {
            let (heard, told) = self.heard();
            let now = Instant::now();
            if heard || now >= self.next {
                let is_ready = self.settling.look(told, Print::of(&self.path), now);
                self.watch_the_way();
                self.next = self.settling.due().map_or(now + LOOK, |due| due.min(now + LOOK));
                if is_ready {
                    return;
                }
            }
            tokio::select! {
                ready = self.kernel.readable() => if let Ok(mut ready) = ready { ready.clear_ready() },
                () = sleep_until(self.next.into()) => {}
            }
        }
    }

    /// What the kernel told since the last time, and whether it told anything that concerns the file.
    fn heard(&mut self) -> (bool, Told) {
        let (mut heard, mut whole) = (false, false);
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.kernel.get_ref(), &mut room);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            };
            let flags = event.events();
            let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
            let concerns = match self.watches.get(&event.wd()) {
                Some(Watched::File) => true,
                Some(Watched::Directory(names)) => name.is_none_or(|name| names.contains(&name)),
                None => flags.contains(ReadFlags::QUEUE_OVERFLOW),
            };
            if !concerns {
                continue;
            }
            heard = true;
            if flags.intersects(ReadFlags::MODIFY | ReadFlags::CREATE) {
                // A link is whole once it is there, and says nothing of whoever writes what it leads to.
                (self.is_open, whole) = (flags.contains(ReadFlags::MODIFY), false);
            }
            if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
                (self.is_open, whole) = (false, true);
            }
            if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::DELETE_SELF) {
                (self.is_open, whole) = (false, false);
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.watches.remove(&event.wd());
            }
        }
        (heard, Told { is_open: self.is_open, is_whole: whole })
    }

    /// Has the kernel tell of the file and of every name on the way to it, as that is now. What can't be watched is looked at
    /// all the same.
    fn watch_the_way(&mut self) {
        let mut wanted: BTreeMap<PathBuf, Vec<OsString>> = BTreeMap::new();
        for (directory, name) in way::names(&self.path) {
            wanted.entry(directory).or_default().push(name);
        }
        let mut watches = BTreeMap::new();
        for (directory, names) in wanted {
            if let Ok(number) = inotify::add_watch(self.kernel.get_ref(), &directory, OF_DIRECTORY) {
                watches.insert(number, Watched::Directory(names));
            }
        }
        if let Ok(number) = inotify::add_watch(self.kernel.get_ref(), &self.path, OF_FILE) {
            watches.insert(number, Watched::File);
        }
        for number in self.watches.keys().filter(|number| !watches.contains_key(number)) {
            // One whose file is gone is gone as well.
            let _ = inotify::remove_watch(self.kernel.get_ref(), *number);
        }
        let of_file = |watches: &BTreeMap<i32, Watched>| {
            watches.iter().find(|(_, watched)| **watched == Watched::File).map(|(number, _)| *number)
        };
        // Whoever writes to a file that the path no longer leads to is no matter.
        self.is_open &= of_file(&watches) == of_file(&self.watches);
        self.watches = watches;
    }
}

const OF_DIRECTORY: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);
const OF_FILE: WatchFlags =
    WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB).union(WatchFlags::DELETE_SELF);

/// Ends after the file changed; never where nothing is watched. May be dropped at any time without losing a change.
pub(crate) async fn changed(watcher: &mut Option<FileWatcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => pending().await,
    }
}
