//! `balancer history`, `balancer show` and `balancer diff`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetHistory {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyHistory {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetGeneration {
    pub number: u64,
}

impl Request for GetHistory {
    type Answer = api::History;

    const METHOD: Method = Method::Get;
    const PATH: &'static str = "history";
    const MEANS: &'static str = "What was brought into force: when, by whom, how and why.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        let history = handle.run(|controller| {
            let state = &controller.running;
            let records = state.desired.history.records().to_vec();
            Ok(api::History { generation: state.kernel.generation, records })
        });
        history.await
    }
}

impl Request for VerifyHistory {
    type Answer = api::Verified;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "history/verify";
    const MEANS: &'static str = "Checks that no record and no stored config was changed.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        let verified = handle.run(|controller| {
            let verified = controller.running.desired.history.verify();
            verified.map_err(|error| Refusal::Invalid(format!("{error:#}")))
        });
        verified.await.map(|records| api::Verified { records })
    }
}

impl Request for GetGeneration {
    type Answer = api::Generation;

    const METHOD: Method = Method::Get;
    const PATH: &'static str = "generation";
    const MEANS: &'static str = "A generation's record, and the config that was in force.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[("number", "of the generation")];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.running.desired.stored(self.number)).await
    }
}
