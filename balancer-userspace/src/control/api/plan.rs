//! The answer to `POST /v1/plan`.

use serde::{Deserialize, Serialize};

pub use crate::model::Risk;
use crate::model::{BackendName, ServiceName};

/// What applying a config would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// For `balancer apply --plan`: another one as soon as anything that was asked for has changed.
    pub id: String,
    /// The number in force.
    pub generation: u64,
    /// Those that are added, removed or changed.
    pub services: Vec<PlannedService>,
    /// The most that a server would have to take after the loss of another one, before and after.
    pub worst_before: Option<WorstLoad>,
    pub worst_after: Option<WorstLoad>,
    pub risk: Risk,
    /// Why, the gravest first.
    pub why: Vec<String>,
    /// Warnings that nothing silences; `new` ones must be accepted.
    pub warnings: Vec<PlannedWarning>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWarning {
    pub id: String,
    pub message: String,
    pub new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
    Kept,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedService {
    pub name: ServiceName,
    pub change: ChangeKind,
    pub slots: u32,
    /// Slots whose new flows get another backend. Flows that are there follow the old one until they end.
    pub slots_moved: u32,
    /// New flows of the last minute, or since the last change, that are on these slots: so many at least follow their old
    /// backend until they end, and none breaks. Absent of a service that is new or goes.
    pub flows_following: Option<u64>,
    pub backends: Vec<PlannedBackend>,
}

/// A backend before and after; absent where it is not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedBackend {
    pub name: BackendName,
    pub change: ChangeKind,
    /// What is left of the weight after health, drain and reachability.
    pub weight_before: Option<u32>,
    pub weight_after: Option<u32>,
    /// Of the table, exact to one slot.
    pub share_before: Option<f64>,
    pub share_after: Option<f64>,
    /// Slots that it has, and how many of them go to somebody else.
    pub slots_before: u32,
    pub slots_leaving: u32,
    /// Of the server's capacity at the declared peaks, all its services together; absent where these are not known.
    pub load_before: Option<f64>,
    pub load_after: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstLoad {
    pub backend: String,
    /// 1 is all of its capacity.
    pub load: f64,
    /// Whose loss it is.
    pub without: String,
}
