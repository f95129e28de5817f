//! `balancer detach`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detach {}

impl Request for Detach {
    type Answer = api::Detached;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "detach";
    const MEANS: &'static str =
        "Takes the data plane down, removes everything that is pinned, and ends the controller.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some("detach the data plane".to_owned())
    }

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.detach().await
    }
}
