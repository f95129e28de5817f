//! `balancer rollback` and `balancer confirm`: the two ends of a change that was made.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};

/// Without a generation, to the one before what is in force, each time one further.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    #[serde(default)]
    pub generation: Option<u64>,
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {}

impl Request for Rollback {
    type Answer = api::Reloaded;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "rollback";
    const MEANS: &'static str = "Brings an earlier generation back.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("generation", "its number; absent or `null`: the one before what is in force, each time one further"),
        ("reason", "optional: why; goes into the history"),
    ];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some(self.generation.map_or_else(|| "rollback".to_owned(), |number| format!("rollback to {number}")))
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let Self { generation, reason } = self;
        let asked = caller.asks(Vec::new(), reason);
        handle.run(move |controller| controller.change(|state| state.rollback(generation, asked))).await
    }
}

impl Request for Confirm {
    type Answer = api::Reloaded;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "confirm";
    const MEANS: &'static str = "Keeps a guarded change.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some("confirm the guarded change".to_owned())
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        handle.run(move |controller| controller.change(|state| state.confirm(caller.uid))).await
    }
}
