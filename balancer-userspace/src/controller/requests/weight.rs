//! `balancer weight`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::{BackendId, Weight};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetWeight {
    pub id: BackendId,
    /// Absent, it goes back to the file's.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Findings that are taken, by identifier; with a reason.
    #[serde(default)]
    pub accept: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

impl Request for SetWeight {
    type Answer = api::Changed;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "weight";
    const MEANS: &'static str = "Sets the weight of a backend.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("id", "the backend, `SERVICE/BACKEND`"),
        ("weight", "0 to 1000000; absent or `null` goes back to the file's"),
        ("accept", "optional: findings that this may bring, by identifier"),
        ("reason", "why; needed with `accept`"),
    ];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        let Self { id, weight, .. } = self;
        Some(weight.map_or_else(|| format!("reset the weight of {id}"), |w| format!("set the weight of {id} to {w}")))
    }

    fn check(&self) -> Result<(), String> {
        match self.weight {
            Some(weight) if Weight::new(weight).is_none() => {
                Err(format!("weight {weight} is out of range; 0 to {}", Weight::MAX))
            }
            _ => Ok(()),
        }
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let Self { id, weight, accept, reason } = self;
        let (weight, asked) = (weight.and_then(Weight::new), caller.asks(accept, reason));
        handle.run(move |controller| controller.running.set_weight(&id, weight, asked)).await
    }
}
