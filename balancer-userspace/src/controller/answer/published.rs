//! What is published after each step, for readers that don't wait for the controller. Counters are not part of it: whoever
//! reads takes them from the maps.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use balancer_common::slot::{BackendIndex, NO_BACKEND};
use balancer_common::verdict::Reason;
use tokio::sync::watch;

use crate::controller::answer::status::events;
use crate::controller::handle::Refusal;
use crate::controller::state::{State, id};
use crate::controller::watch::counts::Raw;
use crate::controller::watch::observer::{Moment, start};
use crate::dataplane::{CounterMaps, Counters};
use crate::metrics::{ServiceSample, Snapshot, WatchedBackend};
use crate::model::{Service, ServiceName};
use crate::plan::share;

/// All but what is counted.
#[derive(Default)]
pub(crate) struct Published {
    services: Vec<Arc<PublishedService>>,
    /// Without services.
    rest: Snapshot,
    /// Where windows of observed shares begin at the earliest.
    oldest: Option<Moment>,
    highest: BackendIndex,
    highest_service: u32,
    /// Fragments that were counted as dropped and were not lost.
    recovered: u64,
}

struct PublishedService {
    /// With what backends had been sent before they got their index.
    sample: ServiceSample,
    watched: Vec<WatchedBackend>,
    number: Option<u16>,
    /// Of the backends, in their order.
    indices: Vec<BackendIndex>,
    changed: Option<Moment>,
}

/// What was published of each service, until it is looked at again.
#[derive(Default)]
pub(crate) struct Publishing {
    again: BTreeSet<ServiceName>,
    services: Vec<Arc<PublishedService>>,
    /// Of the config's services.
    revision: u64,
}

impl Publishing {
    pub(crate) fn look_again<'a>(&mut self, services: impl IntoIterator<Item = &'a ServiceName>) {
        self.again.extend(services.into_iter().cloned());
    }

    pub(crate) fn is_stale(&self) -> bool {
        !self.again.is_empty()
    }
}

impl State {
    /// What stands now. The work grows with what was touched since the last time.
    pub(crate) fn published(&mut self) -> Published {
        let again = std::mem::take(&mut self.watch.publishing.again);
        let revision = self.desired.config.services.revision();
        if self.watch.publishing.revision == revision {
            for name in &again {
                let Some(place) = self.desired.config.services.position(name) else { continue };
                let fresh =
                    self.desired.config.services.get(place).map(|service| Arc::new(self.published_service(service)));
                if let (Some(there), Some(fresh)) = (self.watch.publishing.services.get_mut(place), fresh) {
                    *there = fresh;
                }
            }
        } else {
            let before: HashMap<ServiceName, Arc<PublishedService>> =
                std::mem::take(&mut self.watch.publishing.services)
                    .into_iter()
                    .map(|published| (published.sample.name.clone(), published))
                    .collect();
            let published = |service: &Service| match before.get(&service.name) {
                Some(before) if !again.contains(&service.name) => Arc::clone(before),
                _ => Arc::new(self.published_service(service)),
            };
            self.watch.publishing.services = self.desired.config.services.iter().map(published).collect();
            self.watch.publishing.revision = revision;
        }
        Published {
            services: self.watch.publishing.services.clone(),
            rest: self.without_services(),
            oldest: self.watch.observer.oldest(),
            highest: crate::controller::kernel::allocate::index(self.kernel.pools.backends.highest()),
            highest_service: self.kernel.pools.services.highest(),
            recovered: self.kernel.held.recovered(),
        }
    }

    fn published_service(&self, service: &Service) -> PublishedService {
        let uncounted = Raw { backends: Vec::new(), services: Vec::new() };
        let index = |backend| self.kernel.index_of(&id(service, backend)).unwrap_or(NO_BACKEND);
        PublishedService {
            sample: ServiceSample::from(&self.service_status(service, &uncounted)),
            watched: service.backends.iter().map(|backend| self.watched_backend(service, backend)).collect(),
            number: self.kernel.allocations.services.get(&service.name).copied(),
            indices: service.backends.iter().map(index).collect(),
            changed: self.kernel.programmed.get(&service.name).map(|programmed| programmed.changed.clone()),
        }
    }
}

impl PublishedService {
    fn counted(&self, raw: &Raw, oldest: Option<&Moment>) -> ServiceSample {
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
