//! The packet path in userspace over plain collections: what the loaded program is compared with.

use std::cell::RefCell;
use std::collections::HashMap;

use balancer_common::layout::{BackendCounters, BackendEntry, ReplyEntry, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};
use balancer_common::tables::{Route, RouteQuery, Tables};

/// The maps' content.
#[derive(Default)]
pub struct Model {
    pub services: HashMap<ServiceKey, ServiceEntry>,
    /// Slots by place of the table.
    pub tables: HashMap<u32, Vec<Slot>>,
    pub backends: HashMap<BackendIndex, BackendEntry>,
    pub replies: HashMap<ServiceKey, ReplyEntry>,
    pub counters: RefCell<HashMap<BackendIndex, BackendCounters>>,
}

impl Tables for Model {
    fn service(&self, key: &ServiceKey) -> Option<impl std::ops::Deref<Target = ServiceEntry>> {
        self.services.get(key)
    }

    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        self.tables.get(&table)?.get(slot as usize).copied()
    }

    fn backend(&self, index: BackendIndex) -> Option<impl std::ops::Deref<Target = BackendEntry>> {
        self.backends.get(&index)
    }

    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool) {
        let mut all = self.counters.borrow_mut();
        let counters = all.entry(backend).or_default();
        counters.packets += 1;
        counters.bytes += bytes;
        counters.new_flows += u64::from(new_flow);
    }

    /// Depends on the kernel's clock; new flows are compared for TCP only.
    fn begins_udp_flow(&self, _: u32) -> bool {
        false
    }

    fn has_nat(&self) -> bool {
        !self.replies.is_empty()
    }

    fn reply(&self, key: &ServiceKey) -> Option<impl std::ops::Deref<Target = ReplyEntry>> {
        self.replies.get(key)
    }

    /// A test run has no interface that could forward.
    fn route(&self, _: &RouteQuery) -> Route {
        Route::Here
    }
}
