//! How the rest of the process talks to the controller's task: it sends what is to be run there.

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::control::api::Detached;
use crate::controller::ahead::{self, Ahead};
use crate::controller::kernel::drafts::Drafts;
pub use crate::controller::proposal::Caller;
use crate::controller::proposal::Linted;
pub use crate::controller::refusal::{Refusal, Unfit};
use crate::controller::task::{Controller, Job};

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

    /// Reads a config's content beside the controller's task. Lists that the text names are looked for beside the config in
    /// force, as they are once it is applied, and read with the rights of whoever sent it.
    pub(crate) async fn read_ahead(&self, caller: &Caller, file: &str, text: String) -> Result<Ahead, Refusal> {
        let in_force = |controller: &mut Controller| {
            let desired = &controller.running.desired;
            let programs: Vec<_> = desired.config.node.alarming.programs().map(<[String]>::to_vec).collect();
            Ok((desired.path.clone(), programs))
        };
        let (path, programs) = self.run(in_force).await?;
        let rights = caller.rights();
        let is_stranger = rights.is_some();
        let mut ahead = Ahead::of(file.to_owned(), text, path, rights).await?;
        if is_stranger {
            ahead.refuse_programs(&programs);
        }
        Ok(ahead)
    }

    /// Has the tables that a config would need made and tried beside the controller's task, which takes them with the config.
    pub(crate) async fn draft(&self, linted: &Result<Linted, Refusal>) -> Drafts {
        let Ok((loaded, _)) = linted else { return Drafts::default() };
        let config = loaded.config.clone();
        let outlining = |controller: &mut Controller| Ok((controller.running.outline(&config), config));
        let Ok((outline, config)) = self.run(outlining).await else { return Drafts::default() };
        let made = ahead::aside(move || {
            // A large one takes a while to go.
            drop(config);
            outline.finish()
        });
        made.await.unwrap_or_default()
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
