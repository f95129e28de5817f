//! The schedule of all checks: a task for each target, so that none waits for another.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::hysteresis::Hysteresis;
use super::{Health, probe::probe};
use crate::model::{BackendId, CheckKind, HealthCheck};

/// Probes on their way at a time, so that file descriptors are left for the rest.
const AT_ONCE: usize = 4096;

/// With many targets the first probes are spread over this long.
const FIRST_SPREAD: Duration = Duration::from_millis(200);
const MANY: usize = 1000;

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
}

/// Watches a set of targets.
#[derive(Debug)]
pub struct Monitor {
    reports: mpsc::Sender<Report>,
    permits: Arc<Semaphore>,
    watched: HashMap<BackendId, (Target, AbortHandle)>,
}

impl Monitor {
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self { reports, permits: Arc::new(Semaphore::new(AT_ONCE)), watched: HashMap::new() }
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
        let (reports, permits) = (self.reports.clone(), self.permits.clone());
        tokio::spawn(follow(target, health, spread, reports, permits)).abort_handle()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for (_, task) in self.watched.values() {
            task.abort();
        }
    }
}

async fn follow(
    target: Target,
    health: Health,
    spread: Duration,
    reports: mpsc::Sender<Report>,
    permits: Arc<Semaphore>,
) {
    let check = &target.check;
    let mut state = Hysteresis::new(check.rise, check.fall, health);
    let mut failures = 0;
    if !spread.is_zero() {
        let part: f64 = rand::rng().random();
        sleep(spread.mul_f64(part)).await;
    }
    loop {
        let Ok(permit) = permits.acquire().await else { return };
        let start = Instant::now();
        let outcome = probe(target.address, check).await;
        let took = start.elapsed();
        drop(permit);
        if let Err(error) = &outcome
            && is_own_fault(error)
        {
            log::error!("checks can't be made: {error:#}; raise the limit of open files");
            sleep(check.interval).await;
            continue;
        }
        let changed = state.observe(outcome.is_ok());
        failures += u64::from(outcome.is_err());
        let error = outcome.err().map(|error| format!("{error:#}"));
        let report = Report {
            id: target.id.clone(),
            address: target.address,
            health: state.health(),
            changed,
            took,
            failures,
            error,
        };
        if reports.send(report).await.is_err() || check.kind == CheckKind::None {
            return;
        }
        let wait = jittered(check).saturating_sub(start.elapsed());
        sleep(wait).await;
    }
}

/// Whether this host and not the backend stood in the way: no descriptors or ports were left.
fn is_own_fault(error: &anyhow::Error) -> bool {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS))
}

/// The interval, a little longer or shorter each time, so that checks of many balancers don't march in step.
fn jittered(check: &HealthCheck) -> Duration {
    let jitter = check.jitter.fraction();
    check.interval.mul_f64(1.0 + rand::rng().random_range(-jitter..=jitter))
}
