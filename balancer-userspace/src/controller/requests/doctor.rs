//! `balancer doctor`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::{BackendName, ServiceName};

/// Everything, one service, or one backend of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examine {
    #[serde(default)]
    pub service: Option<ServiceName>,
    #[serde(default)]
    pub backend: Option<BackendName>,
}

impl Request for Examine {
    type Answer = api::Examined;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "doctor";
    const MEANS: &'static str = "Examines host, links and the way to each backend by probes.";
    const FIELDS: &'static [(&'static str, &'static str)] =
        &[("service", "only this one, without the host"), ("backend", "only this one of the service")];

    fn said(&self) -> Option<String> {
        Some("examine host and backends".to_owned())
    }

    /// Probes end where whoever asked closes the connection.
    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.doctor(self.service, self.backend).await
    }
}
