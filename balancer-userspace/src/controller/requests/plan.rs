//! `balancer plan`.

use serde::{Deserialize, Serialize};

use super::apply::Apply;
use super::request::{LARGEST_CONFIG, Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::doctor;

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

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let Apply { text, file, plan, .. } = self.0;
        let ahead = handle.read_ahead(&caller, &file, text).await?;
        let links = doctor::links().await;
        handle.run(move |controller| controller.running.preview(ahead, plan.as_deref(), &links)).await
    }
}
