//! `balancer rehearse`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{LARGEST_CONFIG, Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::ServiceName;
use crate::profile::Period;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearse {
    /// The content of a config file.
    pub text: String,
    /// What findings call it.
    pub file: String,
    /// Which part of the recorded traffic.
    pub profile: Period,
    /// Only this service, and losses that concern it.
    #[serde(default)]
    pub service: Option<ServiceName>,
}

impl Request for Rehearse {
    type Answer = api::Rehearsed;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "rehearse";
    const MEANS: &'static str = "Plays recorded traffic back on a config.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("text", "the content of a config file"),
        ("file", "what findings call it"),
        ("profile", "which traffic: `yesterday`, `today`, `all`, a day, or a duration back from now"),
        ("service", "optional: only this one, and losses that concern it"),
    ];
    const LARGEST: usize = LARGEST_CONFIG;
    /// Weeks of traffic on thousands of backends, without each of them, take minutes.
    const PATIENCE: Duration = Duration::from_secs(1800);

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let rehearsal = handle.run(|controller| controller.running.begin_rehearsal()).await?;
        let outcome = tokio::task::spawn_blocking(move || rehearsal.run(self, caller.rights().as_ref())).await;
        outcome.unwrap_or_else(|error| Err(Refusal::Failed(format!("the rehearsal ended: {error}"))))
    }
}
