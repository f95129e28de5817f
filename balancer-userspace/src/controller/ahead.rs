//! A config's content, read and linted outside of the controller's task: a large one takes seconds, in which nothing else would
//! be answered and no backend's health taken in.

use std::path::{Path, PathBuf};

use crate::controller::proposal::{Linted, linted};
use crate::controller::refusal::Refusal;
use crate::rights::Rights;
use crate::spec::{self, Beside};

/// What was found in a text.
pub(crate) struct Ahead {
    pub(crate) text: String,
    pub(crate) linted: Result<Linted, Refusal>,
}

impl Ahead {
    /// Of a text, for the config whose file is `in_force`; files that it names are read with these rights.
    pub(crate) async fn of(
        file: String,
        text: String,
        in_force: PathBuf,
        rights: Option<Rights>,
    ) -> Result<Self, Refusal> {
        aside(move || Self::read(&file, text, &in_force, rights.as_ref())).await
    }

    /// Of the config's own file, as it is now; `None` where it can't be read.
    pub(crate) async fn of_file(path: PathBuf) -> Option<Self> {
        let read = move || Some(Self::read(&path.display().to_string(), spec::text(&path).ok()?, &path, None));
        aside(read).await.ok().flatten()
    }

    /// Whoever may change the config must not be able to run programs as the controller's user by that.
    pub(crate) fn refuse_programs(&mut self, in_force: &[Vec<String>]) {
        let Ok((loaded, _)) = &self.linted else { return };
        let new = loaded.config.node.alarming.programs().find(|program| !in_force.iter().any(|there| there == program));
        if let Some(program) = new.and_then(|program| program.first()) {
            self.linted = Err(Refusal::Invalid(format!(
                "`webhook.exec` = {program:?} is new, and only root may bring in a program that the controller runs; have root \
                 apply this file"
            )));
        }
    }

    fn read(file: &str, text: String, in_force: &Path, rights: Option<&Rights>) -> Self {
        let beside = Beside { directory: in_force.parent().unwrap_or(Path::new("")), rights };
        Self { linted: linted(file, text.clone(), beside).map_err(Refusal::from), text }
    }
}

/// Runs what takes long outside of the controller's task.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::Failed(format!("reading a config: {error}")))
}
