//! The answer to `POST /v1/rehearse`.

use serde::{Deserialize, Serialize};

use crate::model::{BackendName, ServiceName};
use crate::profile::Period;

/// What backends would have got of recorded traffic, with the weights of the file: what commands set is not considered, and
/// every backend is taken to be up that is not lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsed {
    pub file: String,
    pub profile: Period,
    /// Records that were played back, the start of the first and the end of the last; RFC 3339, UTC.
    pub records: usize,
    pub from: String,
    pub to: String,
    /// Records that could not be read.
    pub broken: usize,
    pub services: Vec<RehearsedService>,
    /// Services of the file that the records have no new flows of.
    pub unknown: Vec<ServiceName>,
    /// Services that the records have and the file has not.
    pub absent: Vec<AbsentService>,
    /// A server would get more than it declares to take.
    pub exceeded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentService {
    pub name: ServiceName,
    /// Of all records together.
    pub new_flows: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsedService {
    pub name: ServiceName,
    /// Of all backends together.
    pub peak: RehearsedPeak,
    /// Records in which flows had other slots than the file would give them, because of another seed, affinity, table size or
    /// address: their flows are spread evenly over all slots.
    pub spread_evenly: usize,
    pub backends: Vec<RehearsedBackend>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsedBackend {
    pub name: BackendName,
    pub weight: u32,
    pub peak: RehearsedPeak,
    /// The worst that a loss would bring; absent where no loss leaves it.
    pub after_loss: Option<AfterLoss>,
    /// New flows a second that the server at this address declares to take, of all services together.
    pub capacity: Option<u64>,
    /// Of that capacity, 1 being all of it, at the peak of all the server's services together; absent without a capacity.
    pub load: Option<f64>,
    pub load_after_loss: Option<LoadAfterLoss>,
    /// Either load is above 1.
    pub exceeds: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RehearsedPeak {
    pub new_flows_per_second: f64,
    /// When the interval began (RFC 3339, UTC), and how long it took.
    pub at: String,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AfterLoss {
    #[serde(flatten)]
    pub peak: RehearsedPeak,
    /// A backend, such as `web/b1`, or a failure domain.
    pub without: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadAfterLoss {
    pub load: f64,
    pub without: String,
}
