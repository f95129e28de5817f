//! What a request is: what travels, how it is called, and how it is answered.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::controller::handle::{Caller, Handle, Refusal};

/// What every path begins with.
pub const PREFIX: &str = "/v1/";
/// A config of many services and lists.
pub(super) const LARGEST_CONFIG: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Fields travel as the query.
    Get,
    /// Fields travel as a JSON body.
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// One command of the control socket.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    type Answer: Reply;

    const METHOD: Method;
    /// Below [`PREFIX`].
    const PATH: &'static str;
    /// What it does, in one sentence.
    const MEANS: &'static str;
    /// Each field, and what it says.
    const FIELDS: &'static [(&'static str, &'static str)];
    /// Whether something is another afterwards.
    const CHANGES: bool = false;
    /// Bytes of a body.
    const LARGEST: usize = 64 * 1024;
    /// How long the client waits: what is only read is answered at once, a change of a large config takes seconds.
    const PATIENCE: Duration = match Self::METHOD {
        Method::Get => Duration::from_secs(10),
        Method::Post => Duration::from_secs(60),
    };

    /// As the log has it, with who asked; `None` where it is not logged.
    fn said(&self) -> Option<String> {
        None
    }

    /// What JSON alone does not rule out.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Runs in a task of its own: what needs the controller's goes there by `Handle::run`.
    fn answer(self, handle: Handle, caller: Caller) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;
}

/// How an answer travels.
pub enum Body {
    Json(serde_json::Result<Vec<u8>>),
    /// A pcapng file, as it comes.
    Packets(mpsc::Receiver<Bytes>),
}

pub trait Reply: Send + 'static {
    fn body(self) -> Body;
}

impl<T: Serialize + Send + 'static> Reply for T {
    fn body(self) -> Body {
        Body::Json(serde_json::to_vec(&self))
    }
}
