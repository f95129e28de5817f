//! `balancer drill`: one starts it, then asks how far it has come.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api::{self, Fault};
use crate::controller::handle::{Caller, Handle, Refusal};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartDrill {
    pub fault: Fault,
}

/// The last drill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDrill {}

impl Request for StartDrill {
    type Answer = api::Drill;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "drill";
    const MEANS: &'static str = "Starts a drill: a fault where it harms nobody.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[("fault", "`table`, `backend` or `skew`")];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some(format!("drill {}", self.fault))
    }

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.running.start_drill(self.fault)).await
    }
}

impl Request for GetDrill {
    type Answer = api::Drill;

    const METHOD: Method = Method::Get;
    const PATH: &'static str = "drill";
    const MEANS: &'static str = "How far the last drill has come.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];

    async fn answer(self, handle: Handle, _: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(|controller| controller.running.watch.drill()).await
    }
}
