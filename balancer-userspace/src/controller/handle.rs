//! How the rest of the process talks to the controller task.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::control::api;
use crate::controller::answer::doctor::Question;
pub use crate::controller::transaction::ChangeRequest;
use crate::model::{BackendId, ServiceName, Weight};

/// Who asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub pid: Option<i32>,
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request names something that isn't there.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be done as asked.
    #[error("{0}")]
    Invalid(String),
    /// It should have worked; what ran before still runs.
    #[error("{0}")]
    Failed(String),
    #[error("the controller is stopping")]
    Stopping,
}

pub type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

pub enum Command {
    Status {
        service: Option<ServiceName>,
        answer: Answer<api::Status>,
    },
    /// `None` goes back to the file's weight.
    Weight {
        id: BackendId,
        weight: Option<Weight>,
        asked: ChangeRequest,
        answer: Answer<api::Changed>,
    },
    Drain {
        id: BackendId,
        drain: bool,
        asked: ChangeRequest,
        answer: Answer<api::Changed>,
    },
    Verify {
        service: Option<ServiceName>,
        answer: Answer<api::Verification>,
    },
    StartDrill {
        fault: api::Fault,
        answer: Answer<api::Drill>,
    },
    Drill {
        answer: Answer<api::Drill>,
    },
    Explain {
        asked: api::Explain,
        answer: Answer<api::Explanation>,
    },
    Doctor(Question),
    Capture {
        request: api::CaptureRequest,
        answer: Answer<mpsc::Receiver<Bytes>>,
    },
    Reload {
        caller: Option<Caller>,
        answer: Answer<api::Reloaded>,
    },
    Apply {
        request: api::Apply,
        caller: Caller,
        answer: Answer<api::Reloaded>,
    },
    Plan {
        request: api::Apply,
        answer: Answer<api::Plan>,
    },
    Rehearse {
        request: api::Rehearse,
        answer: Answer<api::Rehearsed>,
    },
    Rollback {
        request: api::Rollback,
        caller: Caller,
        answer: Answer<api::Reloaded>,
    },
    Confirm {
        caller: Caller,
        answer: Answer<api::Reloaded>,
    },
    History {
        answer: Answer<api::History>,
    },
    Generation {
        number: u64,
        answer: Answer<api::Generation>,
    },
    VerifyHistory {
        answer: Answer<api::Verified>,
    },
    Detach {
        caller: Caller,
        answer: Answer<api::Detached>,
    },
    /// Answers `Ok` once every service has been programmed into the kernel.
    Ready {
        answer: Answer<()>,
    },
}

#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    pub fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    pub async fn status(&self, service: Option<ServiceName>) -> Result<api::Status, Refusal> {
        self.ask(|answer| Command::Status { service, answer }).await
    }

    pub async fn weight(
        &self,
        id: BackendId,
        weight: Option<Weight>,
        asked: ChangeRequest,
    ) -> Result<api::Changed, Refusal> {
        self.ask(|answer| Command::Weight { id, weight, asked, answer }).await
    }

    pub async fn drain(&self, id: BackendId, drain: bool, asked: ChangeRequest) -> Result<api::Changed, Refusal> {
        self.ask(|answer| Command::Drain { id, drain, asked, answer }).await
    }

    pub async fn verify(&self, service: Option<ServiceName>) -> Result<api::Verification, Refusal> {
        self.ask(|answer| Command::Verify { service, answer }).await
    }

    pub async fn start_drill(&self, fault: api::Fault) -> Result<api::Drill, Refusal> {
        self.ask(|answer| Command::StartDrill { fault, answer }).await
    }

    pub async fn drill(&self) -> Result<api::Drill, Refusal> {
        self.ask(|answer| Command::Drill { answer }).await
    }

    pub async fn explain(&self, asked: api::Explain) -> Result<api::Explanation, Refusal> {
        self.ask(|answer| Command::Explain { asked, answer }).await
    }

    /// Parts of a pcapng file, as they come.
    pub async fn capture(&self, request: api::CaptureRequest) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        self.ask(|answer| Command::Capture { request, answer }).await
    }

    /// `caller` is absent for SIGHUP and the file watcher.
    pub async fn reload(&self, caller: Option<Caller>) -> Result<api::Reloaded, Refusal> {
        self.ask(|answer| Command::Reload { caller, answer }).await
    }

    pub async fn apply(&self, request: api::Apply, caller: Caller) -> Result<api::Reloaded, Refusal> {
        self.ask(|answer| Command::Apply { request, caller, answer }).await
    }

    pub async fn plan(&self, request: api::Apply) -> Result<api::Plan, Refusal> {
        self.ask(|answer| Command::Plan { request, answer }).await
    }

    pub async fn rehearse(&self, request: api::Rehearse) -> Result<api::Rehearsed, Refusal> {
        self.ask(|answer| Command::Rehearse { request, answer }).await
    }

    pub async fn rollback(&self, request: api::Rollback, caller: Caller) -> Result<api::Reloaded, Refusal> {
        self.ask(|answer| Command::Rollback { request, caller, answer }).await
    }

    pub async fn confirm(&self, caller: Caller) -> Result<api::Reloaded, Refusal> {
        self.ask(|answer| Command::Confirm { caller, answer }).await
    }

    pub async fn history(&self) -> Result<api::History, Refusal> {
        self.ask(|answer| Command::History { answer }).await
    }

    pub async fn generation(&self, number: u64) -> Result<api::Generation, Refusal> {
        self.ask(|answer| Command::Generation { number, answer }).await
    }

    pub async fn verify_history(&self) -> Result<api::Verified, Refusal> {
        self.ask(|answer| Command::VerifyHistory { answer }).await
    }

    pub async fn detach(&self, caller: Caller) -> Result<api::Detached, Refusal> {
        self.ask(|answer| Command::Detach { caller, answer }).await
    }

    pub async fn ready(&self) -> Result<(), Refusal> {
        self.ask(|answer| Command::Ready { answer }).await
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Refusal::Stopping)?;
        answered.await.unwrap_or(Err(Refusal::Stopping))
    }
}
