//! A config's content, read and linted outside of the controller's task: a large one takes seconds, in which nothing else would
//! be answered and no backend's health taken in.

use std::path::{Path, PathBuf};

use crate::controller::handle::{Handle, Refusal};
use crate::controller::proposal::{Linted, linted};
use crate::spec;

/// What was found in a text.
pub(crate) struct Ahead {
    pub(crate) text: String,
    pub(crate) linted: Result<Linted, Refusal>,
}

impl Ahead {
    /// Lists that the text names are looked for beside the config in force, as they are once it is applied.
    pub(crate) async fn of(handle: &Handle, file: &str, text: String) -> Result<Self, Refusal> {
        let path = handle.run(|controller| Ok(controller.running.desired.path.clone())).await?;
        let file = file.to_owned();
        aside(move || Self::read(&file, text, &path)).await
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

async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::Failed(format!("reading a config: {error}")))
}
