//! How the rest of the process talks to the controller's task: it sends what is to be run there.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::control::api::Detached;
use crate::controller::Controller;
pub use crate::controller::proposal::ChangeRequest;
use crate::spec::Diagnostics;

/// Who asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub pid: Option<i32>,
}

impl Caller {
    /// A change, by whom and why; what it is called comes later.
    pub(crate) fn asks(self, accept: Vec<String>, reason: Option<String>) -> ChangeRequest {
        ChangeRequest { uid: Some(self.uid), reason, accept, ..ChangeRequest::default() }
    }
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The request names something that isn't there.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be done as asked.
    #[error("{0}")]
    Invalid(String),
    /// It should have worked; the previous state stays.
    #[error("{0}")]
    Failed(String),
    /// A config that can't be in force.
    #[error("{}", .0.said)]
    Config(Box<Unfit>),
    #[error("the controller is stopping")]
    Stopping,
}

impl Refusal {
    /// What a failure means for whoever asked.
    pub(crate) fn meaning(self, meaning: &str) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{meaning}: {why}")),
            other => other,
        }
    }

    /// The same, and what else is wrong.
    pub(crate) fn but(self, more: &str) -> Self {
        match self {
            Self::Failed(why) | Self::Invalid(why) => Self::Failed(format!("{why}; {more}")),
            other => other,
        }
    }
}

/// What is wrong with a config.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfit {
    /// For people.
    pub said: String,
    pub found: Diagnostics,
}

impl From<Diagnostics> for Refusal {
    fn from(found: Diagnostics) -> Self {
        Self::Config(Box::new(Unfit { said: found.to_string(), found }))
    }
}

/// What is run in the controller's task, between other things.
pub(crate) type Job = Box<dyn for<'a> FnOnce(&'a mut Controller) -> LocalBoxFuture<'a, ()> + Send>;

#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
}

impl Handle {
    pub(crate) fn new(jobs: mpsc::Sender<Job>) -> Self {
        Self { jobs }
    }

    /// Runs `job` in the controller's task, where nothing else happens meanwhile.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Controller) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.send(|answer| {
            Box::new(move |controller| {
                // An asker that has gone needs no answer.
                let _ = answer.send(job(controller));
                std::future::ready(()).boxed_local()
            })
        })
        .await
    }

    /// The controller ends after it.
    pub(crate) async fn detach(&self) -> Result<Detached, Refusal> {
        self.send(|answer| {
            Box::new(move |controller: &mut Controller| {
                let detaching = async move {
                    let outcome = controller.detach().await;
                    controller.detached = outcome.is_ok();
                    let _ = answer.send(outcome.map_err(|error| Refusal::Failed(format!("{error:#}"))));
                };
                detaching.boxed_local()
            })
        })
        .await
    }

    /// Answers `Ok` once every service has been programmed into the kernel.
    pub async fn ready(&self) -> Result<(), Refusal> {
        self.run(|controller| controller.running.ready()).await
    }

    async fn send<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Job) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| Refusal::Stopping)?;
        answered.await.unwrap_or(Err(Refusal::Stopping))
    }
}
