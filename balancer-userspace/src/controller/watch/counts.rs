//! What the kernel counted, read once for all who ask at a moment.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use balancer_common::layout::ServiceCounters;
use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Reason;

use crate::controller::desired::Desired;
use crate::controller::kernel::Kernel;
use crate::controller::state::{State, id};
use crate::dataplane::Counters;
use crate::model::{Backend, Service, ServiceName};

/// Clients that must send their SYN again, of those whose flows are remembered, and how many of them make a finding.
const REPEATED: f64 = 0.05;
const LEAST_REPEATED: u64 = 20;
/// Packets that are dropped for a reason of ours, of those forwarded.
const DROPPED: f64 = 0.01;
const LEAST_DROPPED: u64 = 20;

/// Backends whose counters are read in a second; with more of them they are read less often.
const BACKENDS_A_SECOND: u32 = 16_000;

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

/// Whose counters are where, worked out once for each state in force.
#[derive(Default)]
pub(crate) struct Layout {
    /// Of the state: its generation, and the revision of the config's services.
    key: (u64, u64),
    services: Vec<OfLayout>,
    /// Servers that declare what they can take.
    declared: BTreeSet<IpAddr>,
    /// When it is time to count.
    next: Option<Instant>,
}

struct OfLayout {
    name: ServiceName,
    number: Option<u16>,
    /// By index; of servers that are among the declared, which that is and what it had been sent before it got the index.
    backends: Vec<(BackendIndex, Option<(IpAddr, u64)>)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OfService {
    flows: u64,
    repeated: u64,
    full: u64,
}

impl Kernel {
    pub(crate) fn raw_counts(&self) -> Result<Raw> {
        let services = self.plane.service_counters(self.pools.services.highest())?;
        Ok(Raw { backends: self.counters()?, services })
    }
}

impl Desired {
    /// Backends that declare how many new flows a second they can take.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&Service, &Backend, u64)> {
        let pairs = self.config.services.iter().flat_map(|service| service.backends.iter().map(move |b| (service, b)));
        pairs.filter_map(|(service, backend)| Some((service, backend, backend.capacity.new_flows?)))
    }
}

impl State {
    /// Counts, where it is time to count again.
    pub(crate) fn due_counts(&mut self, now: Instant) -> Result<Option<Counts>> {
        if self.watch.layout.next.is_some_and(|next| now < next) {
            return Ok(None);
        }
        let backends = self.kernel.pools.backends.in_use() as u32;
        // Less half a tick, so that it is not the next but one that is taken.
        let wait = Duration::from_millis(500) + Duration::from_secs(1) * (backends / BACKENDS_A_SECOND);
        self.watch.layout.next = Some(now + wait);
        if self.watch.layout.key != self.layout_key() {
            self.watch.layout = self.layout();
        }
        self.counts().map(Some)
    }

    /// What stands for all that a layout is worked out from.
    fn layout_key(&self) -> (u64, u64) {
        (self.kernel.generation, self.desired.config.services.revision())
    }

    /// Whose counters are where.
    fn layout(&self) -> Layout {
        let service = |service: &Service| {
            let place = |backend: &Backend| {
                let place = self.kernel.allocations.backends.get(&id(service, backend))?;
                let declared = backend.capacity.new_flows.map(|_| (backend.address, place.base.new_flows));
                Some((place.index, declared))
            };
            OfLayout {
                name: service.name.clone(),
                number: self.kernel.allocations.services.get(&service.name).copied(),
                backends: service.backends.iter().filter_map(place).collect(),
            }
        };
        let services = self.desired.config.services.iter().map(service).collect();
        let declared = self.desired.declared().map(|(_, backend, _)| backend.address).collect();
        Layout { services, declared, next: self.watch.layout.next, key: self.layout_key() }
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let raw = self.kernel.raw_counts()?;
        let (known, fresh) = (&self.watch.layout, OnceCell::new());
        let layout = if known.key == self.layout_key() { known } else { fresh.get_or_init(|| self.layout()) };
        let drops = self.kernel.plane.drops()?;
        let mut counts = Counts {
            forwarded: raw.backends.iter().map(|counters| counters.packets).sum(),
            dropped: OURS.iter().filter_map(|reason| drops.get(*reason as usize)).sum(),
            services: BTreeMap::new(),
            servers: layout.declared.iter().map(|address| (*address, 0)).collect(),
        };
        for service in &layout.services {
            let mut flows = 0;
            for (index, server) in &service.backends {
                let new = raw.backends.get(usize::from(*index)).map_or(0, |counters| counters.new_flows);
                flows += new;
                if let Some((address, base)) = server
                    && let Some(sum) = counts.servers.get_mut(address)
                {
                    *sum += new + base;
                }
            }
            let of = service.number.and_then(|number| raw.services.get(usize::from(number))).copied();
            let of = of.unwrap_or_default();
            let of = OfService { flows, repeated: of.syn_repeated, full: of.flow_table_full };
            // What is not there counts as 0.
            if of != OfService::default() {
                counts.services.insert(service.name.clone(), of);
            }
        }
        Ok(counts)
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
            now.full.saturating_sub(before.services.get(name).map_or(0, |then| then.full))
        };
        let services = self.services.iter().map(|(name, now)| (name, new(name, now)));
        services.filter(|(_, new)| *new > 0).collect()
    }
}
