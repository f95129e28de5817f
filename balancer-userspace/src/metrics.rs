//! `/metrics`: what the controller knows, in Prometheus' terms (DESIGN contract: `balancer_*`, base units, config names as labels).

use std::collections::BTreeMap;

use crate::control::api::{ServiceStatus, Shares};
use crate::model::{BackendName, ServiceName};

/// Everything one scrape shows, taken at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub services: Vec<ServiceSample>,
    /// Every reason there is, also those at 0.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Map name → entries in use and capacity.
    pub maps: BTreeMap<&'static str, (u64, u64)>,
    /// By result: `ok`, `refused`, `failed`.
    pub config_applies: BTreeMap<&'static str, u64>,
    pub config_last_apply_timestamp_seconds: f64,
    pub generation: u64,
    /// Interface → attached mode (`native`, `generic`) or `None` while it is not attached.
    pub interfaces: BTreeMap<String, Option<&'static str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSample {
    pub name: ServiceName,
    pub open_slots: u32,
    pub backends: Vec<BackendSample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BackendSample {
    pub name: BackendName,
    pub packets: u64,
    pub bytes: u64,
    pub new_flows: u64,
    pub up: bool,
    pub weight: u32,
    pub effective_weight: u32,
    pub share: Shares,
    pub check_seconds: Option<f64>,
    pub check_failures: u64,
}

impl From<&ServiceStatus> for ServiceSample {
    fn from(service: &ServiceStatus) -> Self {
        let backends = service.backends.iter().map(|backend| BackendSample {
            name: backend.name.clone(),
            packets: backend.packets,
            bytes: backend.bytes,
            new_flows: backend.new_flows,
            up: backend.state.is_up(),
            weight: backend.weight,
            effective_weight: backend.effective_weight,
            share: backend.share,
            check_seconds: backend.check_seconds,
            check_failures: backend.check_failures,
        });
        Self { name: service.name.clone(), open_slots: service.open_slots, backends: backends.collect() }
    }
}
