//! The state as it is published after each step.

use std::collections::HashMap;
use std::sync::Arc;

use balancer_common::slot::NO_BACKEND;

use crate::controller::counts::Raw;
use crate::controller::published::{Published, PublishedService};
use crate::controller::state::State;
use crate::metrics::ServiceSample;
use crate::model::{Service, ServiceName};

impl State {
    /// What stands now. The work grows with what was touched since the last time.
    pub(crate) fn published(&mut self) -> Published {
        let again = std::mem::take(&mut self.publishing.again);
        let revision = self.desired.config.services.revision();
        if self.publishing.revision == revision {
            for name in &again {
                let Some(place) = self.desired.config.services.position(name) else { continue };
                let fresh =
                    self.desired.config.services.get(place).map(|service| Arc::new(self.published_service(service)));
                if let (Some(there), Some(fresh)) = (self.publishing.services.get_mut(place), fresh) {
                    *there = fresh;
                }
            }
        } else {
            let before: HashMap<ServiceName, Arc<PublishedService>> = std::mem::take(&mut self.publishing.services)
                .into_iter()
                .map(|published| (published.sample.name.clone(), published))
                .collect();
            let published = |service: &Service| match before.get(&service.name) {
                Some(before) if !again.contains(&service.name) => Arc::clone(before),
                _ => Arc::new(self.published_service(service)),
            };
            self.publishing.services = self.desired.config.services.iter().map(published).collect();
            self.publishing.revision = revision;
        }
        Published {
            services: self.publishing.services.clone(),
            rest: self.without_services(),
            control: Arc::new(self.desired.config.node.control.clone()),
            oldest: self.watch.observer.oldest(),
            highest: crate::controller::kernel::allocate::index(self.kernel.pools.backends.highest()),
            highest_service: self.kernel.pools.services.highest(),
            recovered: self.kernel.held.recovered(),
        }
    }

    fn published_service(&self, service: &Service) -> PublishedService {
        let uncounted = Raw { backends: Vec::new(), services: Vec::new() };
        let index = |backend| self.kernel.index_of(&service.id_of(backend)).unwrap_or(NO_BACKEND);
        PublishedService {
            sample: ServiceSample::from(&self.service_status(service, &uncounted)),
            watched: service.backends.iter().map(|backend| self.watched_backend(service, backend)).collect(),
            number: self.kernel.allocations.services.get(&service.name).copied(),
            indices: service.backends.iter().map(index).collect(),
            changed: self.kernel.programmed.get(&service.name).map(|programmed| programmed.changed.clone()),
        }
    }
}
