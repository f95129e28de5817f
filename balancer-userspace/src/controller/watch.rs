//! The config file on disk.

use std::ffi::OsString;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Editors write a file in several steps; they are taken for one.
const DEBOUNCE: Duration = Duration::from_millis(200);

pub(super) struct FileWatcher {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl FileWatcher {
    /// Watches the directory, because editors and deployment tools replace files by renaming others over them.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let name = path.file_name().map(OsString::from).context("the config's path has no file name")?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let ours = event.paths.iter().any(|path| path.file_name() == Some(&name));
            if ours && !event.kind.is_access() {
                // A change that is already waiting to be seen is enough.
                let _ = sender.try_send(());
            }
        })
        .context("watching files")?;
        watcher
            .watch(directory, RecursiveMode::NonRecursive)
            .with_context(|| format!("watching {}", directory.display()))?;
        Ok(Self { changes, _watcher: watcher })
    }
}

/// Ends after the file changed and was left alone for a moment; never where nothing is watched.
pub(super) async fn changed(watcher: &mut Option<FileWatcher>) {
    let Some(watcher) = watcher else { return pending().await };
    if watcher.changes.recv().await.is_none() {
        return pending().await;
    }
    loop {
        tokio::select! {
            more = watcher.changes.recv() => if more.is_none() { return },
            () = sleep(DEBOUNCE) => return,
        }
    }
}
