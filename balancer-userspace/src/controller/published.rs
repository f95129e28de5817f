//! What is published after each step, for readers that don't wait for the controller. Counters are not part of it: whoever
//! reads takes them from the maps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Reason;
use tokio::sync::watch;

use crate::controller::counts::{Raw, events};
use crate::controller::flows::{NewFlows, start};
use crate::controller::refusal::Refusal;
use crate::dataplane::{CounterMaps, Counters};
use crate::metrics::{ServiceSample, Snapshot, WatchedBackend};
use crate::model::{ControlPolicy, ServiceName};
use crate::plan::share;

/// All but what is counted.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) services: Vec<Arc<PublishedService>>,
    /// Without services.
    pub(crate) rest: Snapshot,
    pub(crate) control: Arc<ControlPolicy>,
    /// Where windows of observed shares begin at the earliest.
    pub(crate) oldest: Option<NewFlows>,
    pub(crate) highest: BackendIndex,
    pub(crate) highest_service: u32,
    /// Fragments that were counted as dropped and were not lost.
    pub(crate) recovered: u64,
}

pub(crate) struct PublishedService {
    /// With what backends had been sent before they got their index.
    pub(crate) sample: ServiceSample,
    pub(crate) watched: Vec<WatchedBackend>,
    pub(crate) number: Option<u16>,
    /// Of the backends, in their order.
    pub(crate) indices: Vec<BackendIndex>,
    pub(crate) changed: Option<NewFlows>,
}

/// What was published of each service, until it is looked at again.
#[derive(Default)]
pub(crate) struct Publishing {
    pub(crate) again: BTreeSet<ServiceName>,
    pub(crate) services: Vec<Arc<PublishedService>>,
    /// Of the config's services.
    pub(crate) revision: u64,
}

impl Publishing {
    pub(crate) fn look_again<'a>(&mut self, services: impl IntoIterator<Item = &'a ServiceName>) {
        self.again.extend(services.into_iter().cloned());
    }

    pub(crate) fn is_stale(&self) -> bool {
        !self.again.is_empty()
    }
}

impl Published {
    /// Who may use the control socket.
    pub(crate) fn control(&self) -> Arc<ControlPolicy> {
        Arc::clone(&self.control)
    }
}

impl PublishedService {
    fn counted(&self, raw: &Raw, oldest: Option<&NewFlows>) -> ServiceSample {
        let mut sample = self.sample.clone();
        let since = self.changed.as_ref().map(|changed| start(oldest, changed));
        let mut observed = Vec::with_capacity(self.indices.len());
        for (backend, index) in sample.backends.iter_mut().zip(&self.indices) {
            let counted = raw.backends.get(usize::from(*index)).copied().unwrap_or_default();
            let sum =
                Counters { packets: backend.packets, bytes: backend.bytes, new_flows: backend.new_flows } + counted;
            (backend.packets, backend.bytes, backend.new_flows) = (sum.packets, sum.bytes, sum.new_flows);
            observed.push(since.map_or(0, |since| counted.new_flows.saturating_sub(since.of(*index))));
        }
        let all = observed.iter().sum();
        for (backend, flows) in sample.backends.iter_mut().zip(observed) {
            backend.share.observed = share(flows, all);
        }
        if self.changed.is_some() {
            sample.events = self.number.map(|number| events(&raw.services, number)).unwrap_or_default();
        }
        sample
    }
}

/// Reads what was published, and counters from the maps.
pub struct Reader {
    published: watch::Receiver<Arc<Published>>,
    counters: CounterMaps,
    /// Lost fragments as last told: counters never fall.
    lost: AtomicU64,
}

impl Reader {
    pub(crate) fn new(published: watch::Receiver<Arc<Published>>, counters: CounterMaps) -> Self {
        Self { published, counters, lost: AtomicU64::new(0) }
    }

    /// Of all services, or of one.
    ///
    /// # Errors
    /// Where there is no such service, and where counters can't be read.
    pub fn snapshot(&self, only: Option<&ServiceName>) -> Result<Snapshot, Refusal> {
        let published = Arc::clone(&self.published.borrow());
        let wanted: Vec<&Arc<PublishedService>> =
            published.services.iter().filter(|service| only.is_none_or(|name| service.sample.name == *name)).collect();
        if let (Some(name), true) = (only, wanted.is_empty()) {
            return Err(Refusal::NotFound(format!("there is no service {name}; `balancer status` lists them")));
        }
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let raw = Raw {
            backends: self.counters.backends(published.highest).map_err(failed)?,
            services: self.counters.services(published.highest_service).map_err(failed)?,
        };
        let mut snapshot = published.rest.clone();
        snapshot.dropped = self.counters.drops().map_err(failed)?;
        if let Some(counted) = snapshot.dropped.get_mut(Reason::Fragment.label()) {
            let lost = counted.saturating_sub(published.recovered);
            *counted = self.lost.fetch_max(lost, Ordering::Relaxed).max(lost);
        }
        snapshot.services = wanted.iter().map(|service| service.counted(&raw, published.oldest.as_ref())).collect();
        snapshot.watch.backends = wanted.iter().flat_map(|service| service.watched.iter().cloned()).collect();
        Ok(snapshot)
    }
}
