//! The one task that owns what runs. Everything else sends it jobs or events.
//!
//! `desired` is what should run, `observed` what the world says, `kernel` what runs, `watch` whether they agree, `answer` what is
//! said about it. `transaction` is the one way in for a new config.

mod ahead;
mod answer;
mod desired;
pub mod handle;
mod host;
mod kernel;
mod observed;
pub mod requests;
mod start;
mod state;
mod transaction;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::ahead::Ahead;
use self::desired::file::{self, FileWatcher};
use self::handle::{Handle, Job};
use self::kernel::step::Change;
use self::observed::gate;
use self::state::State;
use self::watch::observer::Moment;
use crate::alarm::{Delivery, Webhooks};
use crate::control::api::Detached;
use crate::dataplane::Told;
use crate::health::{Monitor, Report};
use crate::model::ServiceName;
use crate::neighbor::{Event, Resolver};

/// How often the window of observed shares is looked after.
const TICK: Duration = Duration::from_secs(1);

/// Runs the controller with the config at `path` until it is told to stop; forwarding goes on after it.
pub async fn run(path: &Path) -> Result<()> {
    let (jobs, received) = mpsc::channel(64);
    let handle = Handle::new(jobs);
    let (controller, servers) = start::start(path, handle.clone()).await?;
    let outcome = controller.serve(received, handle).await;
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
    /// Set where the config file is to be watched.
    file: Option<FileWatcher>,
    detached: bool,
}

impl Controller {
    async fn serve(mut self, mut jobs: mpsc::Receiver<Job>, handle: Handle) -> Result<()> {
        let mut signals = Signals::new()?;
        let gate = tokio::spawn(gate::keep(handle.clone()));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.detached {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => job(&mut self).await,
                    None => break,
                },
                Some(report) = self.reports.recv() => self.take_reports(report),
                Some(event) = self.events.recv() => self.take_event(event),
                Some(told) = self.told.recv() => self.take_told(told),
                Some(delivery) = self.deliveries.1.recv() => self.running.watch.watchtower.note_delivery(delivery),
                () = sleep(kernel::fragments::LOOK), if !self.running.kernel.held.is_empty() => self.running.release_fragments(),
                _ = signals.hangup.recv() => {
                    log::info!("SIGHUP: reading the config again");
                    self.reload_unasked("SIGHUP", &handle);
                }
                () = file::changed(&mut self.file) => {
                    log::info!("the config file changed: reading it again");
                    self.reload_unasked("the file changed", &handle);
                }
                _ = tick.tick() => self.tick(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        gate.abort();
        drop(handle);
        self.running.save_healths();
        if !self.detached {
            log::info!("stopping; the data plane forwards on (`balancer detach` takes it down)");
        }
        Ok(())
    }

    /// Changes what should run, and has everything else follow it.
    fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.running);
        self.follow_config();
        outcome
    }

    /// Reads the file beside this task, then has it reload.
    fn reload_unasked(&mut self, why: &'static str, handle: &Handle) {
        let (handle, path) = (handle.clone(), self.running.desired.path.clone());
        tokio::spawn(async move {
            let ahead = Ahead::of_file(path).await;
            // Where the controller is stopping, nothing is to be reloaded.
            let _ = handle.run(move |controller| Ok(controller.reload_read(why, ahead))).await;
        });
    }

    fn reload_read(&mut self, why: &str, ahead: Option<Ahead>) {
        match self.running.reload(None, why, ahead) {
            Ok(done) => log::info!(
                "config applied as generation {}: {} services added, {} removed, {} changed",
                done.generation,
                done.added.len(),
                done.removed.len(),
                done.changed.len()
            ),
            Err(refusal) => log::error!("config refused, the previous config stays active:\n{refusal}"),
        }
        self.follow_config();
    }

    /// Has the checks and next hops of the config in force followed.
    fn follow_config(&mut self) {
        self.running.forget_strangers();
        self.resolver.want(self.running.wanted());
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
                self.webhooks.tell(&self.running.watch.watchtower.alarms.active());
            }
            Err(error) => log::error!("{error:#}"),
        }
    }

    /// Takes in all reports that have come, then acts once.
    fn take_reports(&mut self, first: Report) {
        let mut dirty = BTreeSet::new();
        self.running.note_report(first, &mut dirty);
        while let Ok(report) = self.reports.try_recv() {
            self.running.note_report(report, &mut dirty);
        }
        if !dirty.is_empty() {
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
        self.reconcile(dirty);
    }

    fn take_told(&mut self, told: Told) {
        match told {
            Told::Fragment { frame, ifindex } => {
                self.running.kernel.held.keep(frame, ifindex, Instant::now());
                self.running.release_fragments();
            }
            Told::PathMtu { address, mtu } => {
                let dirty = self.running.learn_path(address, mtu);
                self.reconcile(dirty);
            }
            Told::Watched(watched) => self.running.note_watched(&watched),
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

    fn tick(&mut self) {
        self.running.kernel.plane.tick();
        if self.running.out_of_step() {
            self.reconcile(self.running.all_services());
        }
        let dirty = self.running.forget_paths();
        self.reconcile(dirty);
        self.running.end_capture_if_over();
        self.running.keep_shadow();
        self.running.keep_profile();
        if self.running.watch_guarded() {
            self.follow_config();
        }
        if let Err(error) = self.running.settle() {
            log::error!("slots could not be settled: {error:#}");
        }
        self.running.watch_drift();
        let changed = self.running.watch_alarms();
        self.webhooks.tell(&changed);
        self.running.keep_drill();
        let now = Instant::now();
        if self.running.watch.observer.is_due(now) {
            match self.running.counters() {
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

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).context("installing a signal handler");
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }
}
