//! `balancer status`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::ServiceName;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

impl Request for GetStatus {
    type Answer = api::Status;

    const METHOD: Method = Method::Get;
    const PATH: &'static str = "status";
    const MEANS: &'static str = "What runs: shares, counters, states, drops, alarms.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[("service", "only this one")];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.running.status(self.service.as_ref())).await
    }
}
