//! `balancer explain`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::request::{LARGEST_CONFIG, Method, Request};
use crate::control::api;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::model::Protocol;

/// At most one of `with` and `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    pub protocol: Protocol,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Where it would go under this config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<ConfigText>,
    /// Where it went then; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// The content of a config file, and what to call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    pub text: String,
    pub file: String,
}

impl Request for Explain {
    type Answer = api::Explanation;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "explain";
    const MEANS: &'static str = "Where a flow goes, and why.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("protocol", "`tcp`, `udp` or `sctp`"),
        ("source", "the client's address and port"),
        ("destination", "the service's address and port"),
        ("with", "optional: also where it would go under this config, `{\"text\", \"file\"}`"),
        ("at", "optional: also where it went then (RFC 3339); not with `with`"),
    ];
    const LARGEST: usize = LARGEST_CONFIG;

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let with = match &self.with {
            Some(ConfigText { text, file }) => Some(handle.read_ahead(&caller, file, text.clone()).await?.linted?.0),
            None => None,
        };
        handle.run(move |controller| controller.running.explain(&self, with.as_ref())).await
    }
}
