//! A config's content, read and linted outside of the controller's task: a large one takes seconds, in which nothing else would
//! be answered and no backend's health taken in.

use std::path::{Path, PathBuf};

use crate::controller::proposal::{Linted, linted};
use crate::controller::refusal::Refusal;
use crate::spec;

/// What was found in a text.
pub(crate) struct Ahead {
    pub(crate) text: String,
    pub(crate) linted: Result<Linted, Refusal>,
}

impl Ahead {
    /// Of a text, for the config whose file is `in_force`.
    pub(crate) async fn of(file: String, text: String, in_force: PathBuf) -> Result<Self, Refusal> {
        aside(move || Self::read(&file, text, &in_force)).await
    }

    /// Of the config's own file, as it is now; `None` where it can't be read.
    pub(crate) async fn of_file(path: PathBuf) -> Option<Self> {
        let read = move || Some(Self::read(&path.display().to_string(), spec::text(&path).ok()?, &path));
        aside(read).await.ok().flatten()
    }

    fn read(file: &str, text: String, in_force: &Path) -> Self {
        let directory = in_force.parent().unwrap_or(Path::new(""));
        Self { linted: linted(file, text.clone(), directory).map_err(Refusal::from), text }
    }
}

/// Runs what takes long outside of the controller's task.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::Failed(format!("reading a config: {error}")))
}
