//! The schedule of all checks: a task for each target, so that none waits for another.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::Health;
use super::fault::own_fault;
use super::hysteresis::Hysteresis;
use super::probe::probe;
use super::schedule::pause;
use crate::model::{BackendId, CheckKind, HealthCheck};

/// Probes on their way at a time, so that file descriptors are left for the rest.
const AT_ONCE: usize = 4096;

/// With many targets the first probes are spread over this long.
const FIRST_SPREAD: Duration = Duration::from_millis(200);
const MANY: usize = 1000;

/// No probe is on its way for longer.
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub id: BackendId,
    pub address: SocketAddr,
    pub check: HealthCheck,
}

/// After each probe.
#[derive(Debug, Clone)]
pub struct Report {
    pub id: BackendId,
    /// Where it was asked.
    pub address: SocketAddr,
    pub health: Health,
    pub changed: bool,
    pub took: Duration,
    /// Failed probes since this target is watched.
    pub failures: u64,
    /// What was tried and what happened, of a probe that failed.
    pub error: Option<String>,
    /// Why this host could not ask: the probe says nothing about the backend.
    pub blind: Option<String>,
}

/// Addresses that this host does not reach at the moment by its own fault, why, and until when that was so.
type Unseen = HashMap<IpAddr, (String, Option<Instant>)>;

/// What all checks have in common.
#[derive(Debug, Clone)]
struct Shared {
    reports: mpsc::Sender<Report>,
    permits: Arc<Semaphore>,
    unseen: watch::Receiver<Unseen>,
}

impl Shared {
    /// Why a probe that began at `start` and failed says nothing.
    fn blind(&self, error: &anyhow::Error, address: SocketAddr, start: Instant) -> Option<String> {
        let unseen = self.unseen.borrow();
        let own = unseen.get(&address.ip()).filter(|(_, until)| until.is_none_or(|until| until > start));
        own.map(|(why, _)| why.clone()).or_else(|| own_fault(error, address).map(str::to_owned))
    }
}

/// Watches a set of targets.
#[derive(Debug)]
pub struct Monitor {
    shared: Shared,
    unseen: watch::Sender<Unseen>,
    watched: HashMap<BackendId, (Target, AbortHandle)>,
}

impl Monitor {
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        let (sender, unseen) = watch::channel(Unseen::new());
        let shared = Shared { reports, permits: Arc::new(Semaphore::new(AT_ONCE)), unseen };
        Self { shared, unseen: sender, watched: HashMap::new() }
    }

    /// Which addresses this host does not reach now by its own fault, and why. Probes of them that fail say nothing, those
    /// that are on their way when it ends included.
    pub fn set_unseen(&self, unseen: HashMap<IpAddr, String>) {
        let now = Instant::now();
        self.unseen.send_if_modified(|known| {
            if unseen.is_empty() && known.is_empty() {
                return false;
            }
            known.retain(|_, (_, until)| until.is_none_or(|until| now.duration_since(until) < LONGEST));
            for (address, (_, until)) in known.iter_mut() {
                if until.is_none() && !unseen.contains_key(address) {
                    *until = Some(now);
                }
            }
            known.extend(unseen.into_iter().map(|(address, why)| (address, (why, None))));
            true
        });
    }

    /// Replaces the set. A target that stays as it was keeps its state and schedule; others start with the health given.
    pub fn watch(&mut self, targets: Vec<(Target, Health)>) {
        let spread = if targets.len() > MANY { FIRST_SPREAD } else { Duration::ZERO };
        let mut before = std::mem::take(&mut self.watched);
        for (target, health) in targets {
            let kept = before.remove(&target.id).and_then(|(old, task)| {
                let same = old == target;
                if !same {
                    task.abort();
                }
                same.then_some(task)
            });
            let task = kept.unwrap_or_else(|| self.spawn(target.clone(), health, spread));
            self.watched.insert(target.id.clone(), (target, task));
        }
        for (_, task) in before.into_values() {
            task.abort();
        }
    }

    fn spawn(&self, target: Target, health: Health, spread: Duration) -> AbortHandle {
        tokio::spawn(follow(target, health, spread, self.shared.clone())).abort_handle()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for (_, task) in self.watched.values() {
            task.abort();
        }
    }
}

async fn follow(target: Target, health: Health, spread: Duration, shared: Shared) {
    let check = &target.check;
    let mut state = Hysteresis::new(check.rise, check.fall, health);
    let mut failures = 0;
    if !spread.is_zero() {
        let part: f64 = rand::rng().random();
        sleep(spread.mul_f64(part)).await;
    }
    loop {
        let Ok(permit) = shared.permits.acquire().await else { return };
        let start = Instant::now();
        let mut asked = probe(target.address, check).await;
        let took = start.elapsed();
        let error = std::mem::replace(&mut asked.outcome, Ok(())).err();
        let blind = error.as_ref().and_then(|error| shared.blind(error, target.address, start));
        let changed = blind.is_none() && state.observe(error.is_none());
        failures += u64::from(error.is_some() && blind.is_none());
        let report = Report {
            id: target.id.clone(),
            address: target.address,
            health: state.health(),
            changed,
            took,
            failures,
            error: error.filter(|_| blind.is_none()).map(|error| format!("{error:#}")),
            blind,
        };
        if shared.reports.send(report).await.is_err() || check.kind == CheckKind::None {
            return;
        }
        asked.part().await;
        drop(permit);
        sleep(pause(check, state.is_suspected()).saturating_sub(start.elapsed())).await;
    }
}
