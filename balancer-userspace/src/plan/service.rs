//! One service as it should stand in the kernel.

use std::sync::Arc;

use balancer_common::layout::{
    BackendEntry, Former, PortRange, RateLimits, ServerIdKey, ServiceEntry, ServiceKey, flags,
};
use balancer_common::slot::{BackendIndex, NO_BACKEND, Slot};
use ipnet::IpNet;

use super::entry::{
    address_key, backend_entry, prefix_keys, rate_limits, reply_entry, server_id_key, service_entry, service_key,
};
use crate::maglev;
use crate::model::{BackendName, ForwardMode, Guard, Node, Ports, Protocol, Service, TableSize, Tracking, Weight};
use crate::neighbor::NextHop;

/// A backend of the service, in the order of the model: its index in the kernel, what is left of its weight, and where
/// it is reached. Without a next hop the kernel gets no entry for it.
#[derive(Debug, Clone)]
pub struct Placed {
    pub index: BackendIndex,
    pub weight: Weight,
    pub next_hop: Option<NextHop>,
    /// It is down, and the flows that it has are given up.
    pub dead: bool,
}

/// What is the service's own in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbering {
    /// Of the service; its tables stand at twice the number, and one more.
    pub number: u16,
    /// Place of the table in force.
    pub table: u32,
    pub era: u8,
    pub acl: u16,
    /// Flows from before a change of seed, affinity or table size are still about.
    pub former: bool,
}

/// What decides the content of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    pub index: BackendIndex,
    pub name: BackendName,
    pub weight: Weight,
}

/// A prefix for longest-prefix match: its length and what follows it in the key.
pub type LpmPrefix = (u32, [u32; 5]);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    /// Where the index has it; absent of a service on a prefix.
    pub key: Option<ServiceKey>,
    pub entry: ServiceEntry,
    /// The address that it is on, and the ports where these are several.
    pub address: Option<(ServiceKey, Option<PortRange>)>,
    /// A service on a prefix.
    pub prefixes: Vec<(LpmPrefix, ServiceEntry)>,
    pub backends: Vec<(BackendIndex, BackendEntry)>,
    pub replies: Vec<(ServiceKey, ServiceEntry)>,
    pub server_ids: Vec<(ServerIdKey, BackendIndex)>,
    pub rates: RateLimits,
    pub guard: Arc<Guard>,
    pub table_size: TableSize,
    pub seed: u64,
    /// Backends with a weight above 0.
    pub weighted: Vec<Weighted>,
    /// Backends whose flows are lost.
    pub dead: Vec<BackendIndex>,
    /// Slots open when their owner changes.
    pub keeps: bool,
}

/// `placed` goes with `service.backends`, one by one.
pub fn plan_service(service: &Service, placed: &[Placed], numbering: &Numbering, node: &Node) -> ServicePlan {
    let pairs = || service.backends.iter().zip(placed);
    let backends = pairs().filter_map(|(backend, place)| {
        Some((place.index, backend_entry(service, backend, place.next_hop.as_ref()?, node)))
    });
    // Replies keep their way home as long as the backend is in the config, also while it takes no new flows.
    let nat = service.forward == ForwardMode::Nat;
    let replies = service.backends.iter().filter(|_| nat).map(|backend| reply_entry(service, backend));
    let weighted = pairs().filter(|(_, place)| !place.weight.is_zero()).map(|(backend, place)| Weighted {
        index: place.index,
        name: backend.name.clone(),
        weight: place.weight,
    });
    let server_ids = pairs().filter(|(_, place)| !place.dead).filter_map(|(backend, place)| {
        Some((server_id_key(numbering.number, backend.server_id.as_ref()?), place.index))
    });
    let entry = service_entry(service, numbering, node.seed);
    let on_prefix = service.prefix_len != if service.address.is_ipv4() { 32 } else { 128 };
    let range = match service.ports {
        Ports::One(_) => None,
        Ports::Range(low, high) => Some((low, high)),
        Ports::All => Some((0, u16::MAX)),
    };
    let range = range.map(|(low, high)| PortRange { low, high, protocol: service.protocol.number(), _padding: [0; 3] });
    ServicePlan {
        key: (!on_prefix).then(|| service_key(service)),
        entry,
        address: (!on_prefix).then(|| (address_key(service), range)),
        prefixes: if on_prefix { prefix_keys(service, entry) } else { Vec::new() },
        backends: backends.collect(),
        replies: replies.collect(),
        server_ids: server_ids.collect(),
        rates: rate_limits(&service.guard),
        guard: Arc::new(service.guard.clone()),
        table_size: service.table_size,
        seed: node.seed,
        weighted: weighted.collect(),
        dead: placed.iter().filter(|place| place.dead).map(|place| place.index).collect(),
        keeps: keeps_flows(service),
    }
}

/// Whether flows that its slots' owners lose are kept where they are. With full tracking the flow table does so.
pub fn keeps_flows(service: &Service) -> bool {
    match service.protocol {
        Protocol::Tcp | Protocol::Sctp => true,
        Protocol::Udp => matches!(service.connections.tracking, Tracking::Window(_)),
    }
}

impl ServicePlan {
    /// Whether both would have the same owners.
    pub fn same_table(&self, other: &Self) -> bool {
        self.same_mapping(&other.entry) && self.weighted == other.weighted
    }

    /// Whether a flow has the same slot under both.
    pub fn same_mapping(&self, other: &ServiceEntry) -> bool {
        let mapping = |entry: &ServiceEntry| (entry.keys, entry.table_size, entry.port_mask);
        mapping(&self.entry) == mapping(other)
    }

    /// Whether a flow has the same slot as under a former mapping.
    pub fn is_mapped_as(&self, former: &Former) -> bool {
        let Former { keys, table_size, port_mask, .. } = *former;
        self.same_mapping(&ServiceEntry { keys, table_size, port_mask, ..self.entry })
    }

    /// Puts the table to `table`, for a mapping of flows to slots that differs from the one before.
    pub fn remap(&mut self, table: u32, era: u8) {
        let former = if self.keeps { flags::FORMER } else { 0 };
        self.change_entry(|entry| {
            (entry.table, entry.era) = (table, era);
            entry.flags |= former;
        });
    }

    /// Nothing is former any longer.
    pub fn end_former(&mut self) {
        self.change_entry(|entry| entry.flags &= !flags::FORMER);
    }

    /// Which entries of the lists of prefixes are in force.
    pub fn set_acl(&mut self, acl: u16) {
        self.change_entry(|entry| entry.acl = acl);
    }

    fn change_entry(&mut self, change: impl Fn(&mut ServiceEntry)) {
        change(&mut self.entry);
        for (_, entry) in self.prefixes.iter_mut().filter(|(_, entry)| entry.table_size > 0) {
            change(entry);
        }
    }

    /// Whether every flow of the service is in its flow table.
    pub fn tracks_all(&self) -> bool {
        self.entry.has(flags::TRACK_ALL)
    }

    /// What stands in the lists of prefixes, and whether it allows.
    pub fn acl(&self) -> impl Iterator<Item = (IpNet, bool)> + '_ {
        let allowed = self.guard.allow.iter().map(|prefix| (*prefix, true));
        allowed.chain(self.guard.deny.iter().map(|prefix| (*prefix, false)))
    }

    /// Every slot of the table once no flow from before a change is left.
    pub fn settled_slots(&self) -> Vec<Slot> {
        self.owners().into_iter().map(Slot::closed).collect()
    }

    /// The owner of every slot; nobody's, where no backend has a weight.
    pub fn owners(&self) -> Vec<BackendIndex> {
        let weights: Vec<_> = self.weighted.iter().map(|w| (w.name.clone(), w.weight)).collect();
        let table = maglev::build(self.table_size, self.seed, &weights);
        if table.is_empty() {
            return vec![NO_BACKEND; self.table_size.get() as usize];
        }
        table.into_iter().map(|place| self.weighted[usize::from(place)].index).collect()
    }
}
