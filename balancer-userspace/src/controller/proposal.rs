//! What is proposed, by whom and why; a text read and held against this host.

use std::sync::Arc;
use std::time::Duration;

use crate::controller::refusal::Refusal;
use crate::history::Outcome;
use crate::rights::Rights;
use crate::spec::{Beside, Diagnostic, Diagnostics, Loaded, Severity};
use crate::state::Overrides;
use crate::{host, spec};

/// Who asks for a change, and why.
#[derive(Debug, Clone, Default)]
pub struct ChangeRequest {
    /// Nobody where a signal or the file watcher does.
    pub uid: Option<u32>,
    /// As it is recorded.
    pub command: String,
    pub reason: Option<String>,
    /// Warnings that are taken, by identifier.
    pub accept: Vec<String>,
}

impl ChangeRequest {
    /// Whoever accepts findings says which, and why.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if let Some(id) = self.accept.iter().find(|id| spec::explained(id).is_none()) {
            return Err(Refusal::Invalid(format!("there is no finding {id}; `--accept` takes an identifier")));
        }
        if !self.accept.is_empty() && self.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
            return Err(Refusal::Invalid("say why this is accepted: `--reason \"…\"`".to_owned()));
        }
        Ok(())
    }

    /// What was asked, and by whom.
    pub(crate) fn said(&self) -> String {
        self.uid.map_or_else(|| self.command.clone(), |uid| format!("{} by uid {uid}", self.command))
    }

    pub(crate) fn accepts(&self, id: &str) -> bool {
        self.accept.iter().any(|accepted| accepted.eq_ignore_ascii_case(id))
    }
}

/// What is to be in force.
#[derive(Debug, Clone)]
pub struct Proposal {
    pub text: String,
    /// What findings call the file.
    pub file: String,
    /// Warnings that this brings in must be accepted or silenced.
    pub strict: bool,
    /// Nothing is changed; the answer is what would be.
    pub dry_run: bool,
    /// The plan that this must be.
    pub plan: Option<String>,
    /// On probation for so long.
    pub guard: Option<Duration>,
    /// Read from the config file: that is never written for it.
    pub from_file: bool,
    pub asked: ChangeRequest,
}

impl Proposal {
    /// The config file's content, whose warnings nobody is there to accept.
    pub(crate) fn of_file(text: String, file: &str, asked: ChangeRequest) -> Self {
        let file = file.to_owned();
        Self { text, file, strict: false, dry_run: false, plan: None, guard: None, from_file: true, asked }
    }
}

/// What was brought into force, and how that ended.
pub(crate) struct Recorded {
    pub(crate) generation: u64,
    pub(crate) text: String,
    pub(crate) overrides: Overrides,
    pub(crate) outcome: Outcome,
    pub(crate) back_to: Option<u64>,
}

/// A valid config without errors that count, and all that linting finds in it.
pub(crate) type Linted = (Loaded, Diagnostics);

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub pid: Option<i32>,
    /// All groups of its process.
    pub groups: Arc<[u32]>,
}

impl Caller {
    /// With which files are read that it names; `None` where the controller's own are no more.
    pub(crate) fn rights(&self) -> Option<Rights> {
        let own = self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw();
        (!own).then(|| Rights { uid: self.uid, groups: self.groups.to_vec() })
    }

    /// A change, by whom and why; what it is called comes later.
    pub(crate) fn asks(self, accept: Vec<String>, reason: Option<String>) -> ChangeRequest {
        ChangeRequest { uid: Some(self.uid), reason, accept, ..ChangeRequest::default() }
    }
}

/// Reads `text` and holds it against this host.
///
/// # Errors
/// All that is wrong, where anything is an error that the file does not silence.
pub(crate) fn linted<'a>(file: &str, text: String, beside: impl Into<Beside<'a>>) -> Result<Linted, Diagnostics> {
    let (loaded, found) = judged(file, text, beside)?;
    if found.count(Severity::Error) > 0 { Err(found.worst_first()) } else { Ok((loaded, found)) }
}

/// The same of a text that was in force once: what is found in it keeps nobody from going back to it.
///
/// # Errors
/// All that is wrong, where it is no valid config.
pub(crate) fn judged<'a>(file: &str, text: String, beside: impl Into<Beside<'a>>) -> Result<Linted, Diagnostics> {
    let loaded = spec::read(file, text, beside)?;
    let found = loaded.findings(&host::facts());
    Ok((loaded, found))
}

/// A finding on one line.
pub(crate) fn said(finding: &Diagnostic) -> String {
    format!("{}:{}: {} [{}]", finding.file, finding.line, finding.message, finding.id)
}
