//! What the kernel counted, read once for all who ask at a moment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use balancer_common::layout::ServiceCounters;
use balancer_common::verdict::Reason;

use crate::controller::state::{State, id};
use crate::dataplane::Counters;
use crate::model::{Backend, Service, ServiceName};

/// Clients that must send their SYN again, of those whose flows are remembered, and how many of them make a finding.
const REPEATED: f64 = 0.05;
const LEAST_REPEATED: u64 = 20;
/// Packets that are dropped for a reason of ours, of those forwarded.
const DROPPED: f64 = 0.01;
const LEAST_DROPPED: u64 = 20;

/// Drops that a change can cause; the others are for what clients send.
const OURS: [Reason; 5] =
    [Reason::NoBackend, Reason::BackendMissing, Reason::PacketTooBig, Reason::NoHeadroom, Reason::FlowTableFull];

/// By index of the backend and by number of the service.
pub(crate) struct Raw {
    pub(crate) backends: Vec<Counters>,
    pub(crate) services: Vec<ServiceCounters>,
}

/// What is watched, as counted at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    forwarded: u64,
    dropped: u64,
    services: BTreeMap<ServiceName, OfService>,
    /// New flows of servers that declare what they can take.
    pub(crate) servers: BTreeMap<IpAddr, u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfService {
    flows: u64,
    repeated: u64,
    full: u64,
}

impl State {
    pub(crate) fn raw_counts(&self) -> Result<Raw> {
        let services = self.kernel.plane.service_counters(self.kernel.pools.services.highest())?;
        Ok(Raw { backends: self.counters()?, services })
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let raw = self.raw_counts()?;
        let drops = self.kernel.plane.drops()?;
        let mut counts = Counts {
            forwarded: raw.backends.iter().map(|counters| counters.packets).sum(),
            dropped: OURS.iter().filter_map(|reason| drops.get(*reason as usize)).sum(),
            services: BTreeMap::new(),
            servers: self.declared().map(|(_, backend, _)| (backend.address, 0)).collect(),
        };
        for service in &self.desired.config.services {
            let mut flows = 0;
            for backend in &service.backends {
                let Some(place) = self.kernel.allocations.backends.get(&id(service, backend)) else { continue };
                let new = raw.backends.get(usize::from(place.index)).map_or(0, |counters| counters.new_flows);
                flows += new;
                if let Some(sum) = counts.servers.get_mut(&backend.address) {
                    *sum += new + place.base.new_flows;
                }
            }
            let number = self.kernel.allocations.services.get(&service.name);
            let of = number.and_then(|number| raw.services.get(usize::from(*number))).copied().unwrap_or_default();
            let of = OfService { flows, repeated: of.syn_repeated, full: of.flow_table_full };
            counts.services.insert(service.name.clone(), of);
        }
        Ok(counts)
    }

    /// Backends that declare how many new flows a second they can take.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&Service, &Backend, u64)> {
        let pairs =
            self.desired.config.services.iter().flat_map(|service| service.backends.iter().map(move |b| (service, b)));
        pairs.filter_map(|(service, backend)| Some((service, backend, backend.capacity.new_flows?)))
    }
}

impl Counts {
    /// New flows of a service so far.
    pub(crate) fn flows(&self, name: &ServiceName) -> Option<u64> {
        self.services.get(name).map(|service| service.flows)
    }

    /// Whether too many packets were dropped since `before`, in words.
    pub(crate) fn dropping(&self, before: &Self) -> Option<String> {
        let dropped = self.dropped.saturating_sub(before.dropped);
        let forwarded = self.forwarded.saturating_sub(before.forwarded);
        let many = dropped >= LEAST_DROPPED && dropped as f64 > forwarded as f64 * DROPPED;
        many.then(|| format!("{dropped} packets were dropped, and {forwarded} forwarded"))
    }

    /// Services whose clients had to send too many SYNs again since `before`.
    pub(crate) fn repeating(&self, before: &Self) -> Vec<(&ServiceName, String)> {
        let of_service = |name: &ServiceName, now: &OfService| {
            let then = before.services.get(name).copied().unwrap_or_default();
            let (flows, repeated) = (now.flows.saturating_sub(then.flows), now.repeated.saturating_sub(then.repeated));
            let many = repeated >= LEAST_REPEATED && repeated as f64 > flows as f64 * REPEATED;
            many.then(|| format!("{repeated} SYNs came again, of {flows} new flows: somebody does not answer"))
        };
        self.services.iter().filter_map(|(name, now)| Some((name, of_service(name, now)?))).collect()
    }

    /// Services of which flows met a full flow table since `before`, and how many.
    pub(crate) fn overflowing(&self, before: &Self) -> Vec<(&ServiceName, u64)> {
        let new = |name: &ServiceName, now: &OfService| {
            now.full.saturating_sub(before.services.get(name).map_or(now.full, |then| then.full))
        };
        let services = self.services.iter().map(|(name, now)| (name, new(name, now)));
        services.filter(|(_, new)| *new > 0).collect()
    }
}
