//! From the start to the end: one event after the other, in a select loop.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::controller::ahead::Ahead;
use crate::controller::desired::file;
use crate::controller::examine;
use crate::controller::handle::Handle;
use crate::controller::kernel::drafts::Drafts;
use crate::controller::kernel::fragments;
use crate::controller::signals::Signals;
use crate::controller::start;
use crate::controller::task::{Controller, Job};

/// Between two looks at everything that time alone changes.
const TICK: Duration = Duration::from_secs(1);

impl Controller {
    async fn serve(mut self, mut signals: Signals, mut jobs: mpsc::Receiver<Job>, handle: Handle) -> Result<()> {
        self.manager.ready(&self.running.in_force());
        let gate = tokio::spawn(examine::keep_gate(handle.clone()));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.detached {
            // Whether anything may be another that no step says.
            let mut seen = true;
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => job(&mut self).await,
                    None => break,
                },
                Some(report) = self.reports.recv() => { self.take_reports(report); seen = false; }
                Some(event) = self.events.recv() => self.take_event(event),
                Some(told) = self.told.recv() => { self.take_told(told); seen = false; }
                Some(delivery) = self.deliveries.1.recv() => self.running.watch.watchtower.note_delivery(delivery),
                () = sleep(fragments::LOOK), if !self.running.kernel.held.is_empty() => {
                    self.running.kernel.release_fragments();
                    seen = false;
                }
                _ = signals.hangup.recv() => {
                    log::info!("SIGHUP: reading the config again");
                    self.reload_unasked("SIGHUP", &handle);
                }
                () = file::changed(&mut self.file) => {
                    log::info!("the config file changed: reading it again");
                    self.reload_unasked("the file changed", &handle);
                }
                _ = tick.tick() => self.tick(),
                () = signals.stop.asked() => break,
            }
            if seen || self.running.publishing.is_stale() {
                self.publish();
            }
        }
        gate.abort();
        drop(handle);
        self.running.save_healths();
        if self.detached {
            self.manager.stopping("detached: the data plane was taken down");
        } else {
            log::info!("stopping; the data plane forwards on (`balancer detach` takes it down)");
            self.manager.stopping("stopped; the data plane forwards on");
        }
        Ok(())
    }

    /// Reads the file beside this task, then has it reload.
    fn reload_unasked(&mut self, why: &'static str, handle: &Handle) {
        let (handle, path) = (handle.clone(), self.running.desired.path.clone());
        tokio::spawn(async move {
            let ahead = Ahead::of_file(path).await;
            let drafts = match &ahead {
                Some(ahead) => handle.draft(&ahead.linted).await,
                None => Drafts::default(),
            };
            // Where the controller is stopping, nothing is to be reloaded.
            let job = move |controller: &mut Self| {
                controller.reload_read(why, ahead, drafts);
                Ok(())
            };
            let _ = handle.run(job).await;
        });
    }
}

/// Runs the controller with the config at `path` until it is told to stop; forwarding goes on after it.
pub async fn run(path: &Path) -> Result<()> {
    // Before anything that takes time: a signal without a handler would end the process.
    let mut signals = Signals::handle()?;
    let (jobs, received) = mpsc::channel(64);
    let handle = Handle::new(jobs);
    let (controller, servers) = tokio::select! {
        started = start::start(path, handle.clone()) => started?,
        () = signals.stop.asked() => {
            log::info!("stopped before the start was complete");
            return Ok(());
        }
    };
    let outcome = controller.serve(signals, received, handle).await;
    servers.stop().await;
    outcome
}
