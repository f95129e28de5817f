//! What the world says: health checks, routes and neighbours, path MTUs, and who waits at a gate.

pub(crate) mod gate;
pub(crate) mod learn;
pub(crate) mod paths;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use self::gate::GateQueue;
use self::paths::PathMtus;
use crate::health::Health;
use crate::model::BackendId;
use crate::neighbor::{Reachability, Wanted};

/// What health checks last said of a backend.
#[derive(Debug, Clone, Default)]
pub(crate) struct HealthState {
    /// Where it was asked.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) health: Health,
    pub(crate) took: Option<Duration>,
    pub(crate) failures: u64,
    pub(crate) error: Option<String>,
}

#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) checked: HashMap<BackendId, HealthState>,
    pub(crate) reachable: HashMap<Wanted, Reachability>,
    pub(crate) paths: PathMtus,
    pub(crate) waiting: GateQueue,
    /// What changed since the last step, in words.
    pub(crate) because: Vec<String>,
}
