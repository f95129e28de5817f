//! The config file on disk.

use std::ffi::OsString;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Editors write a file in several steps; they are taken for one.
const DEBOUNCE: Duration = Duration::from_millis(200);

pub(crate) struct FileWatcher {
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl FileWatcher {
    /// Watches the directory, because editors and deployment tools replace files by renaming others over them.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let name = path.file_name().map(OsString::from).context("the config's path has no file name")?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (sender, raw) = mpsc::channel(1);
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
        let (settled, changes) = mpsc::channel(1);
        tokio::spawn(debounce(raw, settled));
        Ok(Self { changes, _watcher: watcher })
    }
}

/// Passes a change on once the file was left alone for a moment.
async fn debounce(mut raw: mpsc::Receiver<()>, settled: mpsc::Sender<()>) {
    while raw.recv().await.is_some() {
        while let Ok(Some(())) = timeout(DEBOUNCE, raw.recv()).await {}
        // One that waits to be seen is enough.
        let _ = settled.try_send(());
    }
}

/// Ends after the file changed; never where nothing is watched. May be dropped at any time without losing a change.
pub(crate) async fn changed(watcher: &mut Option<FileWatcher>) {
    let change = match watcher {
        Some(watcher) => watcher.changes.recv().await,
        None => None,
    };
    if change.is_none() {
        pending().await
    }
}
