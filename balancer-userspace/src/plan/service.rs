//! One service as it should stand in the kernel.

use balancer_common::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, NO_BACKEND};

use super::entry::{backend_entry, reply_entry, service_entry, service_key};
use crate::maglev;
use crate::model::{BackendName, ForwardMode, Node, Service, TableSize, Weight};
use crate::neighbor::NextHop;

/// A backend of the service, in the order of the model: its index in the kernel, what is left of its weight, and where
/// it is reached. Without a next hop the kernel gets no entry for it.
#[derive(Debug, Clone)]
pub struct Placed {
    pub index: BackendIndex,
    pub weight: Weight,
    pub next_hop: Option<NextHop>,
}

/// What decides the content of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    pub index: BackendIndex,
    pub name: BackendName,
    pub weight: Weight,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlan {
    pub key: ServiceKey,
    pub entry: ServiceEntry,
    pub backends: Vec<(BackendIndex, BackendEntry)>,
    pub replies: Vec<(ServiceKey, ReplyEntry)>,
    pub table_size: TableSize,
    pub seed: u64,
    /// Backends with a weight above 0.
    pub weighted: Vec<Weighted>,
}

/// `placed` goes with `service.backends`, one by one; `table` is the place of the service's table.
pub fn plan_service(service: &Service, placed: &[Placed], table: u32, node: &Node) -> ServicePlan {
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
    ServicePlan {
        key: service_key(service),
        entry: service_entry(service, table, node.seed),
        backends: backends.collect(),
        replies: replies.collect(),
        table_size: service.table_size,
        seed: node.seed,
        weighted: weighted.collect(),
    }
}

impl ServicePlan {
    /// Whether both would have the same slots.
    pub fn same_table(&self, other: &Self) -> bool {
        self.table_size == other.table_size && self.seed == other.seed && self.weighted == other.weighted
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
