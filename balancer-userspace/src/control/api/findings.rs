//! What lint finds in what is in force.

use serde::{Deserialize, Serialize};

use crate::model::{BackendName, ServiceName};
use crate::spec::Severity;

/// A finding about the config and the commands in force together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFinding {
    /// Such as `BAL016`.
    pub id: String,
    pub severity: Severity,
    /// The service, or service and backend as `web/b1`, that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<BackendName>,
    pub message: String,
    /// Absent where nobody says that this is as it should be: then there is an alarm.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted: Option<Acceptance>,
}

/// Who says that a finding is as it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// `uid 0`, or `file` where the config silences it.
    pub by: String,
    /// RFC 3339, UTC; empty where the config silences it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub at: String,
    pub reason: String,
}
