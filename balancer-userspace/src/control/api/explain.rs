//! Where a flow goes and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Flow;
use crate::model::{BackendName, ForwardMode, ServiceName};

/// Where a flow goes and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub flow: Flow,
    /// `forward`, `drop` or `pass`.
    pub verdict: String,
    /// Of a drop or a pass: the reason, as in `balancer_dropped_packets_total`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The steps that led there, in order, each a sentence.
    pub steps: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<Route>,
    /// What the loaded program did with the same packet; absent where it was not asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<ProgramSaid>,
    /// Under another config, or at another time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elsewhere: Option<Elsewhere>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSaid {
    /// Its answer and every byte of the frame are those of the model.
    pub agrees: bool,
    /// Such as `XDP_TX`.
    pub answer: String,
}

/// Where a new flow would go, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Such as `with new.toml` or `at 2026-11-21T03:00:00Z`.
    pub when: String,
    /// Absent where no service is there.
    pub service: Option<ServiceName>,
    pub slot: Option<u32>,
    /// Absent where no backend takes flows.
    pub backend: Option<BackendName>,
    /// Whether that is where it goes now.
    pub same: bool,
}

/// The change that gave a slot its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutThere {
    pub generation: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Such as `weight 300 of web/b1 by uid 0` or `web/b1 is down`.
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub service: ServiceName,
    /// 16 hexadecimal digits.
    pub hash: String,
    pub slot: u32,
    pub table_size: u32,
    pub owner: BackendName,
    pub settled_owner: BackendName,
    pub backend: BackendName,
    pub address: IpAddr,
    pub forward: ForwardMode,
    pub generation: u64,
    pub interface: String,
    pub next_hop_mac: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outer_source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rewritten_port: Option<u16>,
    /// The slot is open, so that flows are looked up.
    #[serde(default)]
    pub open: bool,
    /// The flow is in the flow table.
    #[serde(default)]
    pub tracked: bool,
    /// Bytes of the largest IP packet on the way to the backend, and of what a client may send for it.
    #[serde(default)]
    pub mtu: u16,
    #[serde(default)]
    pub largest_packet: u16,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub put_there: Option<PutThere>,
}
