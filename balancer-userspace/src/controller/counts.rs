//! What the kernel counted, and what of it is too much. Values in, values out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use balancer_common::layout::ServiceCounters;
use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Reason;

use crate::dataplane::Counters;
use crate::model::{Backend, Service, ServiceName, Services};
use crate::state::Allocations;

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

/// Whose counters are where, worked out once for each state in force.
#[derive(Default)]
pub(crate) struct Layout {
    /// Of the state: its generation, and the revision of the config's services.
    pub(crate) key: (u64, u64),
    pub(crate) services: Vec<OfLayout>,
    /// Servers that declare what they can take.
    pub(crate) declared: BTreeSet<IpAddr>,
    /// When it is time to count.
    pub(crate) next: Option<Instant>,
}

pub(crate) struct OfLayout {
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

impl Layout {
    /// Whose counters are where.
    pub(crate) fn of(services: &Services, allocations: &Allocations, key: (u64, u64)) -> Self {
        let service = |service: &Service| {
            let place = |backend: &Backend| {
                let place = allocations.backends.get(&service.id_of(backend))?;
                let declared = backend.capacity.new_flows.map(|_| (backend.address, place.base.new_flows));
                Some((place.index, declared))
            };
            OfLayout {
                name: service.name.clone(),
                number: allocations.services.get(&service.name).copied(),
                backends: service.backends.iter().filter_map(place).collect(),
            }
        };
        let all = services.iter().flat_map(|service| &service.backends);
        let declared = all.filter(|backend| backend.capacity.new_flows.is_some()).map(|backend| backend.address);
        Self { services: services.iter().map(service).collect(), declared: declared.collect(), next: None, key }
    }

    /// What is watched of all that was counted; `drops` are by number of the reason.
    pub(crate) fn counts(&self, raw: &Raw, drops: &[u64]) -> Counts {
        let mut counts = Counts {
            forwarded: raw.backends.iter().map(|counters| counters.packets).sum(),
            dropped: OURS.iter().filter_map(|reason| drops.get(*reason as usize)).sum(),
            services: BTreeMap::new(),
            servers: self.declared.iter().map(|address| (*address, 0)).collect(),
        };
        for service in &self.services {
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
        counts
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

/// Names as in the metric `balancer_service_events_total{event}`.
pub(crate) fn events(counted: &[ServiceCounters], number: u16) -> BTreeMap<String, u64> {
    let of = counted.get(usize::from(number)).copied().unwrap_or_default();
    let named = [
        ("flow_table_full", of.flow_table_full),
        ("quic_unknown", of.quic_unknown),
        ("quic_routed", of.quic_routed),
        ("acl_refused", of.acl_refused),
        ("rate_limited", of.rate_limited),
        ("source_rate_limited", of.source_limited),
        ("icmp_relayed", of.icmp_relayed),
        ("too_big_answered", of.too_big_answered),
        ("syn_repeated", of.syn_repeated),
    ];
    named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}
