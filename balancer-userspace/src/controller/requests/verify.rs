//! `balancer verify`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::ServiceName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

impl Request for Compare {
    type Answer = api::Verification;

    const METHOD: Method = Method::Get;
    /// The whole kernel is read back.
    const PATIENCE: Duration = Duration::from_secs(60);
    const PATH: &'static str = "verify";
    const MEANS: &'static str = "Compares now what was configured, planned, written to the kernel and counted.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[("service", "only this one")];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.running.verify(self.service.as_ref())).await
    }
}
