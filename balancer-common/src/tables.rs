//! What a packet's decision asks of the maps. The XDP program answers from the kernel's maps, the model from plain
//! collections, `explain` from maps read back.

use core::ops::Deref;

use crate::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey};
use crate::slot::{BackendIndex, Slot};

pub trait Tables {
    fn service(&self, key: &ServiceKey) -> Option<impl Deref<Target = ServiceEntry>>;

    /// `None` where the service has no table.
    fn slot(&self, table: u32, slot: u32) -> Option<Slot>;

    fn backend(&self, index: BackendIndex) -> Option<impl Deref<Target = BackendEntry>>;

    /// `bytes` is the length of the IP packet as the client sent it.
    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool);

    /// Whether a UDP packet whose flow hash has these spare bits begins a flow (see [`crate::flow`]).
    fn begins_udp_flow(&self, entropy: u32) -> bool;

    /// Whether any service is `nat`.
    fn has_nat(&self) -> bool;

    fn reply(&self, key: &ServiceKey) -> Option<impl Deref<Target = ReplyEntry>>;

    /// The kernel's route for a reply to a client.
    fn route(&self, reply: &RouteQuery) -> Route;
}

/// A packet as the routing table sees it.
#[derive(Clone, Copy)]
#[repr(align(8))]
pub struct RouteQuery {
    /// 4 or 6.
    pub family: u8,
    pub protocol: u8,
    pub tos: u8,
    pub length: u16,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Resolved: out of this interface with these addresses.
    Forward { ifindex: u32, mac: [u8; 6], source_mac: [u8; 6] },
    /// There is a route but the neighbour is not known, or another reason for the kernel to do it.
    Kernel,
    /// For this host itself, or nowhere.
    Here,
}
