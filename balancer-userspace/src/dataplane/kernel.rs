//! The kernel's maps as the packet path's own [`Tables`]: the model decides on what is really there.

use std::ops::Deref;

use balancer_common::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};
use balancer_common::tables::{Route, RouteQuery, Tables};

use super::load::DataPlane;
use super::table::read_slot;

/// Reads maps as it is asked, and counts nothing.
pub struct KernelTables<'a>(pub &'a DataPlane);

struct Copied<T>(T);

impl<T> Deref for Copied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Tables for KernelTables<'_> {
    fn service(&self, key: &ServiceKey) -> Option<impl Deref<Target = ServiceEntry>> {
        self.0.look_up_service(key).map(Copied)
    }

    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        read_slot(self.0.tables.get(&table)?, slot).ok()
    }

    fn backend(&self, index: BackendIndex) -> Option<impl Deref<Target = BackendEntry>> {
        self.0.look_up_backend(index).map(Copied)
    }

    fn count(&self, _: BackendIndex, _: u64, _: bool) {}

    fn begins_udp_flow(&self, _: u32) -> bool {
        false
    }

    fn has_nat(&self) -> bool {
        true
    }

    fn reply(&self, key: &ServiceKey) -> Option<impl Deref<Target = ReplyEntry>> {
        self.0.look_up_reply(key).map(Copied)
    }

    fn route(&self, _: &RouteQuery) -> Route {
        Route::Kernel
    }
}
