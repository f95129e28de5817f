//! What travels over the control socket: JSON over HTTP. Fields are added freely and never changed silently.

mod doctor;
mod drill;
mod explain;
mod findings;
mod plan;
mod refused;
mod rehearse;
mod verify;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use self::doctor::{Examined, Finding, Probed, Through};
pub use self::drill::{Drill, DrillStep, Fault};
pub use self::explain::{Elsewhere, Explanation, ProgramSaid, PutThere, Route};
pub use self::findings::{Acceptance, ConfigFinding};
pub use self::plan::{ChangeKind, Plan, PlannedBackend, PlannedService, PlannedWarning, Risk, WorstLoad};
pub use self::refused::{Code, FoundInConfig, Refused};
pub use self::rehearse::{
    AbsentService, AfterLoss, LoadAfterLoss, Rehearsed, RehearsedBackend, RehearsedPeak, RehearsedService,
};
pub use self::verify::{Gap, Layer, Skew, Verification, VerifiedBackend, VerifiedService};
use crate::alarm::Alarm;
use crate::history::Record;
use crate::model::{Affinity, BackendId, BackendName, ForwardMode, Protocol, ServiceName, XdpMode};

/// `GET /v1/status`, and the contract behind `balancer status --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    /// Number of the applied state of the whole configuration; grows with every change.
    pub generation: u64,
    pub config_file: String,
    pub config_applied_at: String,
    /// Set when the last reload was refused: what runs is older than the file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config_refused: Option<String>,
    /// A change that nobody has confirmed yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guard: Option<Guard>,
    /// What is in force and could not be written to disk, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_written: Vec<String>,
    /// What is wrong now, the worst first.
    #[serde(default)]
    pub alarms: Vec<Alarm>,
    /// What lint finds in the config and the commands in force together, accepted or not.
    #[serde(default)]
    pub findings: Vec<ConfigFinding>,
    pub interfaces: Vec<InterfaceStatus>,
    pub services: Vec<ServiceStatus>,
    /// Dropped packets by reason, only those that occurred.
    pub dropped: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    pub name: String,
    /// As configured.
    pub wanted: XdpMode,
    /// As attached; absent while the interface is missing or the program is not on it.
    pub attached: Option<XdpMode>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: ServiceName,
    pub protocol: Protocol,
    pub address: IpAddr,
    /// Of several ports the lowest.
    pub port: u16,
    /// `443`, `8000-8999` or `all`.
    #[serde(default)]
    pub ports: String,
    /// 32 and 128 are one address.
    #[serde(default)]
    pub prefix_len: u8,
    pub forward: ForwardMode,
    pub affinity: Affinity,
    pub table_size: u32,
    pub open_slots: u32,
    /// Flows from before a change of seed, affinity or table size are still about.
    #[serde(default)]
    pub former_mapping: bool,
    /// Entries of the flow table when it was last looked through, and how many it takes.
    #[serde(default)]
    pub flow_table_entries: u64,
    #[serde(default)]
    pub flow_table_capacity: u32,
    /// Backends that the config has no more and whose established flows go on.
    #[serde(default)]
    pub leaving: Vec<BackendName>,
    /// What happened beside packets and drops, such as `flow_table_full`; they only grow.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
    pub backends: Vec<BackendStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    pub name: BackendName,
    pub address: IpAddr,
    pub port: u16,
    /// In force before health: the file's weight, or the one set by command.
    pub weight: u32,
    /// As the file says.
    pub file_weight: u32,
    /// What a command set over the file, and who did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub set_by_command: Option<Override>,
    pub effective_weight: u32,
    pub state: BackendState,
    /// Why the backend takes no new flows, where it takes none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    pub share: Shares,
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    /// Duration of the last check, and failures since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_seconds: Option<f64>,
    pub check_failures: u64,
}

/// One backend's fraction of its service at the five layers; `null` where nothing was to be divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    pub config: Option<f64>,
    pub effective: Option<f64>,
    pub planned: Option<f64>,
    pub kernel: Option<f64>,
    /// Of the new flows since the last change of the service, at most a minute of them.
    pub observed: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    Up,
    Down,
    Draining,
    /// Weight 0.
    Disabled,
    /// Not yet probed.
    Unknown,
}

impl BackendState {
    /// Whether health would let it take flows; a drained or disabled backend is alive.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Draining | Self::Disabled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
        }
    }
}

/// What a command put over the file, until a command takes it back or the file's own weight changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub drained: bool,
    pub by_uid: u32,
    /// RFC 3339, UTC.
    pub at: String,
}

/// The answer to a change of one service: what its shares became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub service: ServiceName,
    pub generation: u64,
    pub backends: Vec<ShareChange>,
    /// From the request's arrival until the kernel had the new table.
    pub seconds: f64,
    /// What the operator should know, such as that no backend takes flows now.
    pub warnings: Vec<String>,
    /// It is in force on probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareChange {
    pub name: BackendName,
    pub weight: u32,
    pub effective_weight: u32,
    pub state: BackendState,
    /// Of the table in the kernel; `null` where no backend took flows.
    pub before: Option<f64>,
    pub after: Option<f64>,
}

/// A service's shares before a change and after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceShares {
    pub service: ServiceName,
    pub backends: Vec<ShareChange>,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    pub generation: u64,
    pub added: Vec<ServiceName>,
    pub removed: Vec<ServiceName>,
    pub changed: Vec<ServiceName>,
    /// Overrides that ended because the file's weight changed or the backend went.
    pub overrides_ended: Vec<BackendId>,
    /// What linting warns of and nothing silences.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Of `rollback` and `confirm`: services of which a backend's share became another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ServiceShares>,
    /// It is in force on probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Nothing was changed; this is what would have been.
    #[serde(default)]
    pub dry_run: bool,
    pub seconds: f64,
}

/// A change that nobody has confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pub command: String,
    /// Steps taken, of so many.
    pub step: u32,
    pub steps: u32,
    /// Until it is taken back.
    pub seconds_left: u64,
}

/// `GET /v1/history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The number in force; health and next hops make generations of their own, which nobody asked for.
    pub generation: u64,
    /// Oldest first.
    pub records: Vec<Record>,
}

/// `GET /v1/generation?number=N`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub record: Record,
    /// The content of the config file.
    pub text: String,
}

/// `POST /v1/history/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub records: usize,
}

/// A flow, by what its packets show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// `POST /v1/detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// What was taken away: programs by interface, pins, neighbour entries.
    pub removed: Vec<String>,
    /// What stays on purpose.
    pub kept: Vec<String>,
}
