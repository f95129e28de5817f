//! `balancer apply`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::{LARGEST_CONFIG, Method, Request};
use crate::control::api;
use crate::controller::ahead::Ahead;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::controller::kernel::drafts::Drafts;
use crate::controller::proposal::{ChangeRequest, Proposal};
use crate::doctor;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The content of a config file.
    pub text: String,
    /// What findings call it.
    pub file: String,
    /// Warnings that are taken, by identifier; with a reason.
    #[serde(default)]
    pub accept: Vec<String>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
    /// Refused where this is not the plan's identifier any more.
    #[serde(default)]
    pub plan: Option<String>,
    /// The change comes in steps, is watched, and is taken back after so many seconds unless it is confirmed.
    #[serde(default)]
    pub guard: Option<u32>,
}

impl Request for Apply {
    type Answer = api::Reloaded;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "apply";
    const MEANS: &'static str = "Brings a config into force, in the place of the controller's own.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("text", "the content of a config file"),
        ("file", "what findings call it"),
        ("accept", "optional: warnings that it may bring in, by identifier"),
        ("reason", "why; needed with `accept`"),
        ("dry_run", "optional: `true` changes nothing"),
        ("plan", "optional: refused where this is not the plan's identifier any more"),
        ("guard", "optional: taken back after so many seconds unless it is confirmed"),
    ];
    const CHANGES: bool = true;
    const LARGEST: usize = LARGEST_CONFIG;

    fn said(&self) -> Option<String> {
        Some(format!("{} {}", if self.dry_run { "try" } else { "apply" }, self.file))
    }

    async fn answer(mut self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let Ahead { text, linted } = handle.read_ahead(&caller, &self.file, std::mem::take(&mut self.text)).await?;
        let drafts = if self.dry_run || self.guard.is_some() { Drafts::default() } else { handle.draft(&linted).await };
        let links = if self.dry_run { Some(doctor::links().await) } else { None };
        let proposal = Self { text, ..self }.proposal(caller);
        handle
            .run(move |controller| {
                if let (Some(links), Ok((loaded, _))) = (links, &linted) {
                    controller.running.kernel.refuse_unattachable(&loaded.config, &links)?;
                }
                controller.change_with(drafts, |state| state.propose(&proposal, linted))
            })
            .await
    }
}

impl Apply {
    fn proposal(self, caller: Caller) -> Proposal {
        let Self { text, file, accept, reason, dry_run, plan, guard } = self;
        let asked = ChangeRequest { command: format!("apply {file}"), ..caller.asks(accept, reason) };
        let guard = guard.map(|seconds| Duration::from_secs(seconds.into()));
        Proposal { text, file, strict: true, dry_run, plan, guard, from_file: false, asked }
    }
}
