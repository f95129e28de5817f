//! `balancer plan`.

use serde::{Deserialize, Serialize};

use super::apply::Apply;
use super::{LARGEST_CONFIG, Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};

/// What would be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MakePlan(pub Apply);

impl Request for MakePlan {
    type Answer = api::Plan;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "plan";
    const MEANS: &'static str = "What applying a config would change; refused where `apply` would be.";
    const FIELDS: &'static [(&'static str, &'static str)] = Apply::FIELDS;
    const LARGEST: usize = LARGEST_CONFIG;

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.running.preview(&self.0)).await
    }
}
