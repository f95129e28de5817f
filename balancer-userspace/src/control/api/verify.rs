//! What runs against what was planned.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Shares;
use crate::model::{BackendName, ServiceName};

/// Of what something is known: the five layers of shares, the program that is attached, and the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// Weights as written.
    Config,
    /// After health, drain and reachability.
    Effective,
    /// The table that the controller computed.
    Planned,
    /// What is read back from the maps.
    Kernel,
    /// New flows as counted.
    Observed,
    /// The program on an interface.
    Program,
    /// The config's file on disk.
    File,
}

impl Layer {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Effective => "effective",
            Self::Planned => "planned",
            Self::Kernel => "kernel",
            Self::Observed => "observed",
            Self::Program => "program",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Of the alarm that it raises.
    pub alarm: String,
    /// The two layers that differ.
    pub from: Layer,
    pub to: Layer,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<BackendName>,
    /// What differs, such as `slot 17 of 65537` or `eth0`.
    pub entry: String,
    pub expected: String,
    pub found: String,
    /// Others of the same kind that are not told one by one.
    #[serde(default)]
    pub others: u64,
    /// It was put right.
    #[serde(default)]
    pub healed: bool,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.service, &self.backend) {
            (Some(service), Some(backend)) => write!(f, "{service}/{backend}: ")?,
            (Some(service), None) => write!(f, "{service}: ")?,
            _ => {}
        }
        write!(f, "{}: expected {}, found {}", self.entry, self.expected, self.found)?;
        if self.others > 0 {
            write!(f, ", and {} more", self.others)?;
        }
        if self.healed { f.write_str("; put right") } else { Ok(()) }
    }
}

/// `GET /v1/verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// RFC 3339, UTC.
    pub at: String,
    /// What the comparison took.
    pub seconds: f64,
    pub gaps: Vec<Gap>,
    /// Weights and drains that a command set over the file: somebody wanted these.
    #[serde(default)]
    pub asked_for: Vec<Gap>,
    pub services: Vec<VerifiedService>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifiedService {
    pub name: ServiceName,
    /// New flows a second, lately.
    pub new_flows_per_second: f64,
    /// Why observed shares are not judged.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unjudged: Option<String>,
    pub backends: Vec<VerifiedBackend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifiedBackend {
    pub name: BackendName,
    pub share: Shares,
    /// After how many seconds at the present rate it would show that the backend gets a fifth more than planned; absent where
    /// there are no new flows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shows_after_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub skew: Option<Skew>,
}

/// More or less traffic than planned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Skew {
    /// Of the planned, such as 0.2 for a fifth more.
    pub effect: f64,
    /// Of the difference, in units of its uncertainty.
    pub score: f64,
    pub window_seconds: f64,
}
