//! What a packet's decision asks of the maps. The XDP program answers from the kernel's maps, the model from plain
//! collections, `explain` from maps read back.

use core::ops::{Deref, DerefMut};

use crate::layout::{
    BackendEntry, FlowEntry, FlowKey, Former, FragmentEntry, FragmentKey, LpmKey, PortRange, ServerIdKey, ServiceEntry,
    ServiceKey, SourceKey,
};
use crate::parse::Packet;
use crate::slot::{BackendIndex, Slot};
use crate::verdict::{Event, Verdict};

pub trait Tables {
    /// A line of the index, however the collection hands it out.
    type Service: Deref<Target = ServiceEntry>;
    type Backend: Deref<Target = BackendEntry>;
    type Flow<'a>: DerefMut<Target = FlowEntry>
    where
        Self: 'a;

    /// Which of [`crate::layout::gates`] are in use.
    fn gates(&self) -> u32;

    fn entry(&self, key: &ServiceKey) -> Option<Self::Service>;

    /// A range of ports of the index in force.
    fn range(&self, place: u32) -> Option<PortRange>;

    /// The service on the longest prefix that the key matches.
    fn prefix(&self, key: &LpmKey) -> Option<Self::Service>;

    /// `None` where the service has no table.
    fn slot(&self, table: u32, slot: u32) -> Option<Slot>;

    fn backend(&self, index: BackendIndex) -> Option<Self::Backend>;

    /// How the service of this number mapped flows before.
    fn former(&self, number: u16) -> Option<Former>;

    /// Keys of flow identities.
    fn identity_keys(&self) -> [u64; 2];

    fn flow(&self, number: u16, key: FlowKey) -> Option<Self::Flow<'_>>;

    /// False where the service's flow table is full, or it has none.
    fn remember(&self, number: u16, key: FlowKey, entry: &FlowEntry) -> bool;

    /// The present (see [`crate::clock`]).
    fn now(&self) -> u32;

    /// Notes that a packet of an open slot went to somebody else than the owner.
    fn strayed(&self, number: u16, slot: u32, now: u32);

    /// When an open slot's owner last changed.
    fn opened(&self, number: u16, slot: u32) -> u32;

    /// The backend that a server id stands for.
    fn server_id(&self, key: &ServerIdKey) -> Option<BackendIndex>;

    /// Where the first fragment went.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry>;

    fn remember_fragment(&self, key: &FragmentKey, entry: &FragmentEntry);

    /// Hands a fragment that came before its first one to the controller.
    fn hold(&self);

    /// Whether the longest prefix in the lists that the key matches allows; `None` where it is in none.
    fn allows(&self, key: &LpmKey) -> Option<bool>;

    /// Takes a token of the service's, or of the source's bucket; false where it is empty.
    fn take_token(&self, number: u16, source: Option<&SourceKey>) -> bool;

    /// `bytes` is the length of the IP packet as the client sent it.
    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool);

    /// A flow begins on the backend because it owns the slot.
    fn count_group(&self, backend: BackendIndex, slot: u32);

    /// Counts what happened to a packet of the service of this number.
    fn tally(&self, number: u16, event: Event);

    /// Whether a UDP packet whose flow hash has these spare bits begins a flow (see [`crate::flow`]); with `note`, the
    /// next one does not.
    fn begins_udp_flow(&self, entropy: u32, note: bool) -> bool;

    /// The kernel's route for a reply to a client.
    fn route(&self, reply: &RouteQuery) -> Route;

    /// Tells the controller that the way to `address` takes IP packets of at most `mtu` bytes.
    fn learn_mtu(&self, address: &[u32; 4], family: u8, mtu: u32);

    /// Whether anybody watches packets at all.
    fn watches(&self) -> bool;

    /// Shows the frame, still as it came, to whoever watches packets of this flow. `service` is its number, or
    /// [`crate::capture::NO_SERVICE`].
    fn watch(&self, packet: &Packet, service: u32);

    /// Shows a frame that was watched as it leaves.
    fn watched(&self, packet: &Packet, seen: Seen, verdict: Verdict);
}

/// Which way a packet took, for those who watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Number of the service, or [`crate::capture::NO_SERVICE`].
    pub service: u32,
    pub slot: u32,
    pub backend: BackendIndex,
}

/// A flow: its service's key, source, and both ports as in a [`crate::parse::Packet`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WatchedFlow {
    pub destination: ServiceKey,
    pub source: [u64; 2],
    pub ports: u64,
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

/// What the kernel's routing table says. Whole words, as the verifier wants them on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Route {
    pub way: Way,
    /// Of the interface that the packet leaves by.
    pub ifindex: u64,
    /// Of the next hop; the first byte of the address is the lowest of the word.
    pub mac: u64,
    /// Of the interface.
    pub source_mac: u64,
    /// Bytes that the route takes, where that is too little.
    pub mtu: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u64)]
pub enum Way {
    /// For this host itself, or nowhere.
    #[default]
    Here,
    /// There is a route but the neighbour is not known, or another reason for the kernel to do it.
    Kernel,
    /// There is a route, and it takes smaller packets only.
    TooBig,
    /// Resolved.
    Forward,
}

impl Route {
    #[inline(always)]
    pub const fn only(way: Way) -> Self {
        Self { way, ifindex: 0, mac: 0, source_mac: 0, mtu: 0 }
    }
}

/// A MAC address of a [`Route`].
#[inline(always)]
pub const fn mac(word: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    [a, b, c, d, e, f]
}
