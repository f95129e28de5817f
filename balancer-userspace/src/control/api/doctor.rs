//! What `balancer doctor` found.

use serde::{Deserialize, Serialize};

use crate::model::BackendId;
use crate::spec::Severity;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The worst first.
    pub findings: Vec<Finding>,
    pub probed: Vec<Probed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Such as `DOC018`; stable.
    pub id: String,
    pub severity: Severity,
    /// `host`, or the name of an interface, a service or a backend (`web/web-1`).
    pub about: String,
    pub message: String,
    pub help: String,
}

/// How a backend was probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    pub backend: BackendId,
    pub through: Through,
    /// Why not through the program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Whether it answered from the service's address.
    pub answered: bool,
    /// The largest packet in bytes that was answered, outer headers excluded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub largest: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Through {
    /// The XDP program sent the packets.
    Program,
    /// A socket sent what the program would have made of them.
    Socket,
}
