//! `balancer drain` and `balancer undrain`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::BackendId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    pub id: BackendId,
    /// Findings that are taken, by identifier; with a reason.
    #[serde(default)]
    pub accept: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

/// The same, taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Undrain(pub Drain);

const FIELDS: &[(&str, &str)] = &[
    ("id", "the backend, `SERVICE/BACKEND`"),
    ("accept", "optional: findings that this may bring, by identifier"),
    ("reason", "why; needed with `accept`"),
];

impl Request for Drain {
    type Answer = api::Changed;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "drain";
    const MEANS: &'static str = "Gives a backend no new flows.";
    const FIELDS: &'static [(&'static str, &'static str)] = FIELDS;
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some(format!("drain {}", self.id))
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        self.set(true, handle, caller).await
    }
}

impl Request for Undrain {
    type Answer = api::Changed;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "undrain";
    const MEANS: &'static str = "Takes a drain back.";
    const FIELDS: &'static [(&'static str, &'static str)] = FIELDS;
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some(format!("undrain {}", self.0.id))
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        self.0.set(false, handle, caller).await
    }
}

impl Drain {
    async fn set(self, drain: bool, handle: Handle, caller: Caller) -> Result<api::Changed, Refusal> {
        let Self { id, accept, reason } = self;
        let asked = caller.asks(accept, reason);
        handle.run(move |controller| controller.running.set_drain(&id, drain, asked)).await
    }
}
