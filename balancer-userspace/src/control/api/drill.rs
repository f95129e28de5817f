//! Drills: a fault where it harms nobody, followed to those who should hear of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is wrong in a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// A slot of a table is overwritten in the kernel
    Table,
    /// A backend's entry is overwritten in the kernel
    Backend,
    /// A backend gets 50 % more new flows than planned
    Skew,
}

impl Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Backend => "backend",
            Self::Skew => "skew",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `GET /v1/drill`: the last drill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    pub fault: Fault,
    /// In the order in which they came.
    pub steps: Vec<DrillStep>,
    pub over: bool,
    /// What did not happen in time.
    #[serde(default)]
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillStep {
    /// Since the fault.
    pub seconds: f64,
    /// `found`, `alarm`, `metric`, `webhook HOST`, `put right`, `alarm over`, `webhook HOST resolved`.
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
