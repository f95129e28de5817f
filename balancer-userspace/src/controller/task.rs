//! The one task that owns what runs: each event and each job is one call of a method here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use tokio::sync::mpsc;

use crate::alarm::{Delivery, Webhooks};
use crate::control::api::{Detached, Reloaded};
use crate::controller::ahead::Ahead;
use crate::controller::desired::file::FileWatcher;
use crate::controller::flows::NewFlows;
use crate::controller::kernel::drafts::Drafts;
use crate::controller::published::Published;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::dataplane::Told;
use crate::health::{Monitor, Report};
use crate::model::{Node, ServiceName};
use crate::neighbor::{Event, Resolver};
use crate::service_manager::ServiceManager;
use crate::{logging, metrics};

/// The running state and everything that feeds it.
pub(crate) struct Controller {
    pub(crate) running: State,
    pub(crate) monitor: Monitor,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) resolver: Resolver,
    pub(crate) events: mpsc::Receiver<Event>,
    /// What the program tells.
    pub(crate) told: mpsc::Receiver<Told>,
    pub(crate) webhooks: Webhooks,
    pub(crate) deliveries: (mpsc::UnboundedSender<Delivery>, mpsc::UnboundedReceiver<Delivery>),
    pub(crate) published: tokio::sync::watch::Sender<Arc<Published>>,
    /// Set where the config file is to be watched.
    pub(crate) file: Option<FileWatcher>,
    pub(crate) manager: ServiceManager,
    pub(crate) detached: bool,
}

impl Controller {
    /// For those who read without asking.
    pub(crate) fn publish(&mut self) {
        self.published.send_replace(Arc::new(self.running.published()));
    }

    /// Changes what should run, and has everything else follow it. Who has the answer finds it in the metrics.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.running);
        self.follow_config();
        self.publish();
        outcome
    }

    /// The same with tables that were made ahead.
    pub(crate) fn change_with<T>(&mut self, drafts: Drafts, change: impl FnOnce(&mut State) -> T) -> T {
        self.running.kernel.rehearsal.drafts = drafts;
        let outcome = self.change(change);
        self.running.kernel.rehearsal.drafts = Drafts::default();
        outcome
    }

    pub(crate) fn reload(
        &mut self,
        uid: Option<u32>,
        command: &str,
        ahead: Option<Ahead>,
        drafts: Drafts,
    ) -> Result<Reloaded, Refusal> {
        self.manager.reloading();
        let outcome = self.change_with(drafts, |state| state.reload(uid, command, ahead));
        self.manager.ready(&self.running.in_force());
        outcome
    }

    pub(crate) fn reload_read(&mut self, why: &str, ahead: Option<Ahead>, drafts: Drafts) {
        match self.reload(None, why, ahead, drafts) {
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
    pub(crate) fn follow_config(&mut self) {
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
        match webhooks(node, &self.deliveries.0) {
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
    pub(crate) fn take_reports(&mut self, first: Report) {
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

    pub(crate) fn take_event(&mut self, first: Event) {
        let mut dirty = BTreeSet::new();
        self.running.note_event(first, &mut dirty);
        while let Ok(event) = self.events.try_recv() {
            self.running.note_event(event, &mut dirty);
        }
        self.monitor.set_unseen(self.running.unseen());
        self.reconcile(dirty);
    }

    pub(crate) fn take_told(&mut self, told: Told) {
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

    pub(crate) fn reconcile(&mut self, dirty: BTreeSet<ServiceName>) {
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

    pub(crate) fn tick(&mut self) {
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
        // One that is over stays, for whoever asks.
        if self.running.watch.drilling.as_ref().is_some_and(|drilling| !drilling.said.over) {
            match metrics::encode(&self.running.without_services()) {
                Ok(shown) => self.running.keep_drill(&shown),
                Err(error) => log::error!("{error:#}"),
            }
        }
        let (generation, refused) = (self.running.kernel.generation, self.running.desired.refused.is_some());
        self.manager.tick(generation, refused, || self.running.in_force());
        let now = Instant::now();
        if self.running.watch.observer.is_due(now) {
            match self.running.kernel.counters() {
                Ok(counters) => self.running.watch.observer.note(NewFlows::new(now, &counters)),
                Err(error) => log::error!("{error:#}"),
            }
        }
    }

    pub(crate) async fn detach(&mut self) -> Result<Detached> {
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

/// What is run in the controller's task, between other things.
pub(crate) type Job = Box<dyn for<'a> FnOnce(&'a mut Controller) -> LocalBoxFuture<'a, ()> + Send>;

/// Those of the config, which tell how each request ended.
pub(crate) fn webhooks(node: &Node, deliveries: &mpsc::UnboundedSender<Delivery>) -> Result<Webhooks> {
    let deliveries = deliveries.clone();
    Webhooks::start(&node.alarming, &node.name, move |delivery| drop(deliveries.send(delivery)))
}
