//! The one task that owns what runs. Everything else sends it jobs or events.
//!
//! `desired` is what should run, `observed` what the world says, `kernel` what runs, `watch` whether they agree, `answer` what is
//! said about it. `transaction` is the one way in for a new config.

mod ahead;
pub mod answer;
mod bring;
mod desired;
pub mod handle;
mod host;
mod kernel;
mod observed;
mod proposal;
pub mod requests;
mod signals;
mod start;
mod state;
mod transaction;
mod unwritten;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::ahead::Ahead;
use self::answer::published::Published;
use self::desired::file::{self, FileWatcher};
use self::handle::{Handle, Job, Refusal};
use self::kernel::step::Change;
use self::observed::gate;
use self::signals::Signals;
use self::state::State;
use self::watch::observer::Moment;
use crate::alarm::{Delivery, Webhooks};
use crate::control::api::{Detached, Reloaded};
use crate::dataplane::Told;
use crate::health::{Monitor, Report};
use crate::logging;
use crate::model::ServiceName;
use crate::neighbor::{Event, Resolver};
use crate::service_manager::ServiceManager;

/// Between two looks at everything that time alone changes.
const TICK: Duration = Duration::from_secs(1);

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

/// The running state and everything that feeds it.
pub(crate) struct Controller {
    running: State,
    monitor: Monitor,
    reports: mpsc::Receiver<Report>,
    resolver: Resolver,
    events: mpsc::Receiver<Event>,
    /// What the program tells.
    told: mpsc::Receiver<Told>,
    webhooks: Webhooks,
    deliveries: (mpsc::UnboundedSender<Delivery>, mpsc::UnboundedReceiver<Delivery>),
    published: tokio::sync::watch::Sender<Arc<Published>>,
    /// Set where the config file is to be watched.
    file: Option<FileWatcher>,
    manager: ServiceManager,
    detached: bool,
}

impl Controller {
    async fn serve(mut self, mut signals: Signals, mut jobs: mpsc::Receiver<Job>, handle: Handle) -> Result<()> {
        self.manager.ready(&self.running.in_force());
        let gate = tokio::spawn(gate::keep(handle.clone()));
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
                () = sleep(kernel::fragments::LOOK), if !self.running.kernel.held.is_empty() => {
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
            if seen || self.running.watch.publishing.is_stale() {
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

    /// For those who read without asking.
    fn publish(&mut self) {
        self.published.send_replace(Arc::new(self.running.published()));
    }

    /// Changes what should run, and has everything else follow it. Who has the answer finds it in the metrics.
    fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.running);
        self.follow_config();
        self.publish();
        outcome
    }

    fn reload(&mut self, uid: Option<u32>, command: &str, ahead: Option<Ahead>) -> Result<Reloaded, Refusal> {
        self.manager.reloading();
        let outcome = self.change(|state| state.reload(uid, command, ahead));
        self.manager.ready(&self.running.in_force());
        outcome
    }

    /// Reads the file beside this task, then has it reload.
    fn reload_unasked(&mut self, why: &'static str, handle: &Handle) {
        let (handle, path) = (handle.clone(), self.running.desired.path.clone());
        tokio::spawn(async move {
            let ahead = Ahead::of_file(path).await;
            // Where the controller is stopping, nothing is to be reloaded.
            let job = move |controller: &mut Self| {
                controller.reload_read(why, ahead);
                Ok(())
            };
            let _ = handle.run(job).await;
        });
    }

    fn reload_read(&mut self, why: &str, ahead: Option<Ahead>) {
        match self.reload(None, why, ahead) {
            Ok(done) => log::info!(
                "config applied as generation {}: {} services added, {} removed, {} changed",
                done.generation,
                done.added.len(),
                done.removed.len(),
                done.changed.len()
            ),
            Err(refusal) => {
                log::error!(target: logging::ASKED, "config refused, the previous config stays active:\n{refusal}")
            }
        }
    }

    /// Has the checks and next hops of the config in force followed.
    fn follow_config(&mut self) {
        self.running.forget_strangers();
        self.running.forget_removals();
        self.resolver.want(self.running.desired.wanted());
        self.monitor.watch(self.running.targets());
        self.follow_webhooks();
    }

    fn follow_webhooks(&mut self) {
        let node = &self.running.desired.config.node;
        if self.webhooks.are(&node.alarming) {
            return;
        }
        match start::webhooks(node, &self.deliveries.0) {
            Ok(webhooks) => {
                self.webhooks = webhooks;
                let names: Vec<&str> = node.alarming.webhooks.iter().map(|webhook| webhook.name()).collect();
                self.running.watch.watchtower.deliveries.retain(|name, _| names.contains(&name.as_str()));
                // The new ones hear of everything that is active.
                self.webhooks.tell(&self.running.watch.watchtower.alarms.active(), self.running.desired.history.head());
            }
            Err(error) => log::error!("{error:#}"),
        }
    }

    /// Takes in all reports that have come, then acts once.
    fn take_reports(&mut self, first: Report) {
        let mut dirty = BTreeSet::new();
        self.running.observed.note_report(first, &mut dirty);
        while let Ok(report) = self.reports.try_recv() {
            self.running.observed.note_report(report, &mut dirty);
        }
        if !dirty.is_empty() {
            self.running.weigh_removals(&dirty);
            self.running.save_healths();
        }
        self.reconcile(dirty);
    }

    fn take_event(&mut self, first: Event) {
        let mut dirty = BTreeSet::new();
        self.running.note_event(first, &mut dirty);
        while let Ok(event) = self.events.try_recv() {
            self.running.note_event(event, &mut dirty);
        }
        self.monitor.set_unseen(self.running.unseen());
        self.reconcile(dirty);
    }

    fn take_told(&mut self, told: Told) {
        match told {
            Told::Fragment { frame, ifindex } => {
                self.running.kernel.held.keep(frame, ifindex, Instant::now());
                self.running.kernel.release_fragments();
            }
            Told::PathMtu { address, mtu } => {
                let dirty = self.running.learn_path(address, mtu);
                self.reconcile(dirty);
            }
            Told::Watched(watched) => self.running.kernel.note_watched(&watched),
        }
    }

    fn reconcile(&mut self, dirty: BTreeSet<ServiceName>) {
        if dirty.is_empty() {
            return;
        }
        if let Err(error) = self.running.reconcile(dirty, Change::default()) {
            log::error!("the kernel could not be written: {error:#}");
        }
    }

    /// What a step that failed left undone.
    fn retry(&mut self) {
        match self.running.reconcile(BTreeSet::new(), Change::default()) {
            Ok(_) => log::info!("the kernel is in step again"),
            Err(error) => log::error!("the kernel could not be written, trying again: {error:#}"),
        }
    }

    fn tick(&mut self) {
        logging::tick();
        self.running.kernel.plane.tick();
        let now = Instant::now();
        self.running.store.look_after(now);
        self.running.write_unwritten();
        if self.running.kernel.out_of_step() {
            self.retry();
        }
        let mut dirty = self.running.forget_paths();
        dirty.extend(self.running.settle_doubts());
        dirty.extend(self.running.judge_waiting());
        self.monitor.set_unseen(self.running.unseen());
        self.reconcile(dirty);
        self.running.kernel.end_capture_if_over();
        self.running.kernel.keep_shadow();
        self.running.keep_profile();
        if self.running.watch_guarded() {
            self.follow_config();
        }
        if let Err(error) = self.running.settle() {
            log::error!("slots could not be settled: {error:#}");
        }
        self.running.watch_drift();
        if let (Some(file), Some(comparison)) = (&mut self.file, self.running.overlooked_file()) {
            file.suspect(comparison);
        }
        let changed = self.running.watch_alarms();
        self.webhooks.tell(&changed, self.running.desired.history.head());
        self.running.keep_drill();
        let (generation, refused) = (self.running.kernel.generation, self.running.desired.refused.is_some());
        self.manager.tick(generation, refused, || self.running.in_force());
        let now = Instant::now();
        if self.running.watch.observer.is_due(now) {
            match self.running.kernel.counters() {
                Ok(counters) => self.running.watch.observer.note(Moment::new(now, &counters)),
                Err(error) => log::error!("{error:#}"),
            }
        }
    }

    async fn detach(&mut self) -> Result<Detached> {
        let mut detached = crate::dataplane::detach(&self.running.desired.config.node.pin_dir)?;
        let neighbours = self.resolver.forget().await;
        detached.removed.push(format!("{neighbours} managed neighbour entries"));
        if !self.running.desired.overrides.is_empty() {
            let path = self.running.desired.config.node.state_dir.join("overrides.json");
            detached.kept.push(format!("weights and drains set by command, in {}", path.display()));
        }
        log::info!("the data plane was taken down");
        Ok(detached)
    }
}
