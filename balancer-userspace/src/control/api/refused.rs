//! Every answer but 200.

use serde::{Deserialize, Serialize};

use crate::spec::{Diagnostic, Severity};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong and what to do.
    pub error: String,
    #[serde(default)]
    pub code: Code,
    /// What is wrong with a config, where that is why: the worst of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FoundInConfig>,
    /// How many findings are not listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_findings: usize,
}

/// Why, for scripts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request can't be understood.
    BadRequest,
    /// There is no such path, service, backend or generation.
    NotFound,
    WrongMethod,
    TooLarge,
    /// It can't be done as asked.
    Refused,
    /// It should have worked.
    #[default]
    Failed,
    Stopping,
    /// No controller answers.
    Unreachable,
    /// Of the control socket.
    PermissionDenied,
}

/// A finding about a config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundInConfig {
    /// Such as `BAL012`; stable.
    pub id: String,
    pub severity: Severity,
    /// The service or the backend that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub help: String,
}

impl From<&Diagnostic> for FoundInConfig {
    fn from(found: &Diagnostic) -> Self {
        Self {
            id: found.id.to_owned(),
            severity: found.severity,
            subject: found.subject.clone(),
            file: found.file.clone(),
            line: found.line,
            column: found.column,
            message: found.message.clone(),
            help: found.help.clone(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
