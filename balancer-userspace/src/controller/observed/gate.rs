//! Backends that wait at the gate of their service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{BackendId, BackendName, ServiceName};

/// Backends of a service that wait, and where they are.
pub type AtGate = (ServiceName, Vec<(BackendName, IpAddr)>);

/// What the doctor last said of backends that wait.
pub(crate) type GateQueue = BTreeMap<BackendId, String>;
