//! The kernel's maps as the packet path's own [`Tables`]: the model decides on what is really there.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use balancer_common::layout::{
    BackendEntry, FlowEntry, FlowKey, Former, FragmentEntry, FragmentKey, LpmKey, PortRange, ServerIdKey, ServiceEntry,
    ServiceKey, SourceKey,
};
use balancer_common::parse::Packet;
use balancer_common::slot::{BackendIndex, Slot};
use balancer_common::tables::{Route, RouteQuery, Seen, Tables, Way};
use balancer_common::verdict::{Event, Verdict};

use super::load::DataPlane;

/// Reads maps as it is asked, and neither counts nor remembers anything but what is told of the last packet.
pub struct KernelTables<'a> {
    plane: &'a DataPlane,
    seen: Cell<Option<Seen>>,
}

impl<'a> KernelTables<'a> {
    pub fn new(plane: &'a DataPlane) -> Self {
        Self { plane, seen: Cell::new(None) }
    }

    /// What the packet path knew of the last packet of a service in the end.
    pub fn seen(&self) -> Option<Seen> {
        self.seen.get()
    }
}

/// A value read from a map.
pub struct Copied<T>(T);

impl<T> Deref for Copied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Copied<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl Tables for KernelTables<'_> {
    type Service = Copied<ServiceEntry>;
    type Backend = Copied<BackendEntry>;
    type Flow<'a>
        = Copied<FlowEntry>
    where
        Self: 'a;

    fn gates(&self) -> u32 {
        self.plane.gates()
    }

    fn entry(&self, key: &ServiceKey) -> Option<Copied<ServiceEntry>> {
        self.plane.look_up(key).map(Copied)
    }

    fn range(&self, place: u32) -> Option<PortRange> {
        self.plane.look_up_range(place)
    }

    fn prefix(&self, key: &LpmKey) -> Option<Copied<ServiceEntry>> {
        let key = aya::maps::lpm_trie::Key::new(LpmKey::LONGEST, key.data());
        self.plane.prefixes.get(&key, 0).ok().map(Copied)
    }

    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        self.plane.look_up_slot(table, slot)
    }

    fn backend(&self, index: BackendIndex) -> Option<Copied<BackendEntry>> {
        self.plane.look_up_backend(index).map(Copied)
    }

    fn former(&self, number: u16) -> Option<Former> {
        self.plane.former(number).ok()
    }

    fn identity_keys(&self) -> [u64; 2] {
        self.plane.identity_keys()
    }

    fn flow(&self, number: u16, key: FlowKey) -> Option<Copied<FlowEntry>> {
        self.plane.look_up_flow(number, key).map(Copied)
    }

    fn remember(&self, _: u16, _: FlowKey, _: &FlowEntry) -> bool {
        true
    }

    fn now(&self) -> u32 {
        self.plane.clock()
    }

    fn strayed(&self, _: u16, _: u32, _: u32) {}

    fn opened(&self, number: u16, slot: u32) -> u32 {
        self.plane.activity(number).get(slot as usize).map_or(0, |activity| activity.opened())
    }

    fn server_id(&self, key: &ServerIdKey) -> Option<BackendIndex> {
        self.plane.look_up_server_id(key)
    }

    fn fragment(&self, _: &FragmentKey) -> Option<FragmentEntry> {
        None
    }

    fn remember_fragment(&self, _: &FragmentKey, _: &FragmentEntry) {}

    fn hold(&self) {}

    fn allows(&self, key: &LpmKey) -> Option<bool> {
        let key = aya::maps::lpm_trie::Key::new(LpmKey::LONGEST, key.data());
        self.plane.acl.get(&key, 0).ok().map(|allows| allows != 0)
    }

    fn take_token(&self, _: u16, _: Option<&SourceKey>) -> bool {
        true
    }

    fn count(&self, _: BackendIndex, _: u64, _: bool) {}

    fn count_group(&self, _: BackendIndex, _: u32) {}

    fn tally(&self, _: u16, _: Event) {}

    fn begins_udp_flow(&self, _: u32, _: bool) -> bool {
        false
    }

    fn route(&self, _: &RouteQuery) -> Route {
        Route::only(Way::Kernel)
    }

    fn learn_mtu(&self, _: &[u32; 4], _: u8, _: u32) {}

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, _: &Packet, _: u32) {}

    fn watched(&self, _: &Packet, seen: Seen, _: Verdict) {
        self.seen.set(Some(seen));
    }
}

impl balancer_common::steps::Steps for KernelTables<'_> {}
