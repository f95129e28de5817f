//! `balancer reload`.

use serde::{Deserialize, Serialize};

use super::request::{Method, Request};
use crate::control::api;
use crate::controller::ahead::Ahead;
use crate::controller::handle::{Caller, Handle, Refusal};
use crate::controller::kernel::drafts::Drafts;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {}

impl Request for Reload {
    type Answer = api::Reloaded;

    const METHOD: Method = Method::Post;
    const PATH: &'static str = "reload";
    const MEANS: &'static str = "Reads the config file again, as SIGHUP does.";
    const FIELDS: &'static [(&'static str, &'static str)] = &[];
    const CHANGES: bool = true;

    fn said(&self) -> Option<String> {
        Some("reload the config".to_owned())
    }

    async fn answer(self, handle: Handle, caller: Caller) -> Result<Self::Answer, Refusal> {
        let path = handle.run(|controller| Ok(controller.running.desired.path.clone())).await?;
        let ahead = Ahead::of_file(path).await;
        let drafts = match &ahead {
            Some(ahead) => handle.draft(&ahead.linted).await,
            None => Drafts::default(),
        };
        handle.run(move |controller| controller.reload(Some(caller.uid), "reload", ahead, drafts)).await
    }
}
