//! What the world says: health checks, routes and neighbours, path MTUs, and who waits at a gate.

pub(crate) mod gate;
pub(crate) mod learn;
pub(crate) mod links;
pub(crate) mod paths;
pub(crate) mod removals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use self::gate::GateQueue;
use self::links::OwnLinks;
use self::paths::PathMtus;
use crate::health::Health;
use crate::health::removal::Removals;
use crate::model::{BackendId, ServiceName};
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
    /// Why this host can't ask, and since when.
    pub(crate) blind: Option<(String, SystemTime)>,
}

#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) checked: HashMap<BackendId, HealthState>,
    /// The way to each, as far as it is believed.
    pub(crate) reachable: HashMap<Wanted, Reachability>,
    /// What the kernel said last, where that is not believed.
    pub(crate) doubted: HashMap<Wanted, Reachability>,
    pub(crate) links: OwnLinks,
    pub(crate) paths: PathMtus,
    pub(crate) waiting: GateQueue,
    pub(crate) removals: HashMap<ServiceName, Removals>,
    /// What changed since the last step, in words.
    pub(crate) because: Vec<String>,
}
