//! The one task that owns what runs. Everything else sends it commands or events.
//!
//! `desired` is what should run, `observed` what the world says, `kernel` what runs, `watch` whether they agree, `answer` what is
//! said about it. `transaction` is the one way in for a new config.

pub mod answer;
mod desired;
pub mod handle;
mod host;
mod kernel;
mod observed;
mod start;
mod state;
mod transaction;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::answer::published::Published;
use self::desired::file::{self, FileWatcher};
use self::handle::{Caller, Command, Handle, Refusal};
use self::kernel::step::Change;
use self::observed::gate;
use self::state::State;
use self::transaction::{ChangeRequest, Proposal};
use self::watch::observer::Moment;
use crate::alarm::{Delivery, Webhooks};
use crate::control::api::{self, Detached, History, Verified};
use crate::dataplane::Told;
use crate::health::{Monitor, Report};
use crate::model::ServiceName;
use crate::neighbor::{Event, Resolver};

/// How often the window of observed shares is looked after.
const TICK: Duration = Duration::from_secs(1);

/// Runs the controller with the config at `path` until it is told to stop; forwarding goes on after it.
pub async fn run(path: &Path) -> Result<()> {
    let (commands, received) = mpsc::channel(64);
    let handle = Handle::new(commands);
    let (controller, servers) = start::start(path, handle.clone()).await?;
    let outcome = controller.serve(received, handle).await;
    servers.stop().await;
    outcome
}

/// The running state and everything that feeds it.
struct Controller {
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
    detached: bool,
}

impl Controller {
    async fn serve(mut self, mut commands: mpsc::Receiver<Command>, handle: Handle) -> Result<()> {
        let mut signals = Signals::new()?;
        let gate = tokio::spawn(gate::keep(handle.clone()));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.detached {
            // Whether anything may be another that no step says.
            let mut seen = true;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                Some(report) = self.reports.recv() => { self.take_reports(report); seen = false; }
                Some(event) = self.events.recv() => self.take_event(event),
                Some(told) = self.told.recv() => { self.take_told(told); seen = false; }
                Some(delivery) = self.deliveries.1.recv() => self.running.watch.watchtower.note_delivery(delivery),
                () = sleep(kernel::fragments::LOOK), if !self.running.kernel.held.is_empty() => {
                    self.running.release_fragments();
                    seen = false;
                }
                _ = signals.hangup.recv() => { log::info!("SIGHUP: reading the config again"); self.reload_unasked("SIGHUP"); }
                () = file::changed(&mut self.file) => {
                    log::info!("the config file changed: reading it again");
                    self.reload_unasked("the file changed");
                }
                _ = tick.tick() => self.tick(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
            if seen || self.running.watch.publishing.is_stale() {
                self.publish();
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

    /// For those who read without asking.
    fn publish(&mut self) {
        self.published.send_replace(Arc::new(self.running.published()));
    }

    async fn command(&mut self, command: Command) {
        // An asker that has gone needs no answer.
        match command {
            Command::Status { service, answer } => drop(answer.send(self.running.status(service.as_ref()))),
            Command::Weight { id, weight, asked, answer } => {
                let outcome = self.running.set_weight(&id, weight, asked);
                // Who has the answer finds it in the metrics.
                self.publish();
                drop(answer.send(outcome));
            }
            Command::Drain { id, drain, asked, answer } => {
                let outcome = self.running.set_drain(&id, drain, asked);
                self.publish();
                drop(answer.send(outcome));
            }
            Command::Verify { service, answer } => drop(answer.send(self.running.verify(service.as_ref()))),
            Command::StartDrill { fault, answer } => drop(answer.send(self.running.start_drill(fault))),
            Command::Drill { answer } => drop(answer.send(self.running.drill())),
            Command::Explain { asked, answer } => drop(answer.send(self.running.explain(&asked))),
            Command::Doctor(question) => self.running.answer_doctor(question),
            Command::Capture { request, answer } => drop(answer.send(self.running.start_capture(&request))),
            Command::Reload { caller, answer } => {
                let outcome = self.running.reload(caller.map(|caller| caller.uid), "reload");
                self.follow_config();
                self.publish();
                drop(answer.send(outcome));
            }
            Command::Apply { request, caller, answer } => {
                let outcome = self.running.propose(&proposal(request, caller));
                self.follow_config();
                self.publish();
                drop(answer.send(outcome));
            }
            Command::Plan { request, answer } => drop(answer.send(self.running.preview(&request))),
            Command::Rehearse { request, answer } => self.running.begin_rehearsal(request, answer),
            Command::Confirm { caller, answer } => {
                let outcome = self.running.confirm(caller.uid);
                self.follow_config();
                self.publish();
                drop(answer.send(outcome));
            }
            Command::Rollback { request, caller, answer } => {
                let asked = ChangeRequest { uid: Some(caller.uid), reason: request.reason, ..ChangeRequest::default() };
                let outcome = self.running.rollback(request.generation, asked);
                self.follow_config();
                self.publish();
                drop(answer.send(outcome));
            }
            Command::History { answer } => {
                let records = self.running.desired.history.records().to_vec();
                drop(answer.send(Ok(History { generation: self.running.kernel.generation, records })));
            }
            Command::Generation { number, answer } => drop(answer.send(self.running.stored(number))),
            Command::VerifyHistory { answer } => {
                let verified = self.running.desired.history.verify();
                let verified = verified.map_err(|error| Refusal::Invalid(format!("{error:#}")));
                drop(answer.send(verified.map(|records| Verified { records })));
            }
            Command::Detach { caller: _, answer } => {
                let outcome = self.detach().await;
                self.detached = outcome.is_ok();
                drop(answer.send(outcome.map_err(|error| Refusal::Failed(format!("{error:#}")))));
            }
            Command::Ready { answer } => drop(answer.send(self.running.ready())),
        }
    }

    fn reload_unasked(&mut self, why: &str) {
        match self.running.reload(None, why) {
            Ok(done) => log::info!(
                "config applied as generation {}: {} services added, {} removed, {} changed",
                done.generation,
                done.added.len(),
                done.removed.len(),
                done.changed.len()
            ),
            Err(refusal) => log::error!("config refused, what ran before runs on:\n{refusal}"),
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

fn proposal(request: api::Apply, caller: Caller) -> Proposal {
    let api::Apply { text, file, accept, reason, dry_run, plan, guard } = request;
    let asked = ChangeRequest { uid: Some(caller.uid), command: format!("apply {file}"), reason, accept };
    let guard = guard.map(|seconds| Duration::from_secs(seconds.into()));
    Proposal { text, file, strict: true, dry_run, plan, guard, asked }
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
