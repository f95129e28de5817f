//! What the program would make of a frame if one backend had every slot: the packet path itself, in userspace, over one
//! backend's entry. So it can be sent by a socket: beside the program, or where no slot is the backend's.

use balancer_common::datapath::process;
use balancer_common::frame::VecFrame;
use balancer_common::layout::{
    BackendEntry, FlowEntry, FlowKey, Former, FragmentEntry, FragmentKey, LpmKey, PortRange, ServerIdKey, ServiceEntry,
    ServiceKey, SourceKey,
};
use balancer_common::parse::Packet;
use balancer_common::slot::{BackendIndex, Slot};
use balancer_common::steps::Steps;
use balancer_common::tables::{Route, RouteQuery, Seen, Tables, Way};
use balancer_common::verdict::{Event, Verdict};

struct Beside<'a> {
    service: ServiceEntry,
    backend: &'a BackendEntry,
}

/// The frame as it leaves, and by which interface; `None` where the program would not forward it, as when it is too big.
/// Its destination may be any address: there, everything is for this service.
pub(super) fn forwarded(frame: Vec<u8>, service: &ServiceEntry, backend: &BackendEntry) -> Option<(Vec<u8>, u32)> {
    // Lists, rates and flow tables are about clients.
    let tables = Beside { service: ServiceEntry { flags: 0, ..*service }, backend };
    let mut frame = VecFrame(frame);
    match process(&mut frame, &tables) {
        Verdict::Forward { ifindex } => Some((frame.0, ifindex)),
        _ => None,
    }
}

/// Any index but that of nobody.
const THE_BACKEND: BackendIndex = 1;

impl<'a> Tables for Beside<'a> {
    type Service = Box<ServiceEntry>;
    type Backend = &'a BackendEntry;
    type Flow<'b>
        = Box<FlowEntry>
    where
        Self: 'b;

    fn gates(&self) -> u32 {
        0
    }

    fn entry(&self, _: &ServiceKey) -> Option<Self::Service> {
        Some(Box::new(self.service))
    }

    fn range(&self, _: u32) -> Option<PortRange> {
        None
    }

    fn prefix(&self, _: &LpmKey) -> Option<Self::Service> {
        None
    }

    fn slot(&self, _: u32, _: u32) -> Option<Slot> {
        Some(Slot::closed(THE_BACKEND))
    }

    fn backend(&self, _: BackendIndex) -> Option<&'a BackendEntry> {
        Some(self.backend)
    }

    fn former(&self, _: u16) -> Option<Former> {
        None
    }

    fn identity_keys(&self) -> [u64; 2] {
        [0; 2]
    }

    fn flow(&self, _: u16, _: FlowKey) -> Option<Self::Flow<'_>> {
        None
    }

    fn remember(&self, _: u16, _: FlowKey, _: &FlowEntry) -> bool {
        true
    }

    fn now(&self) -> u32 {
        0
    }

    fn strayed(&self, _: u16, _: u32, _: u32) {}

    fn opened(&self, _: u16, _: u32) -> u32 {
        0
    }

    fn server_id(&self, _: &ServerIdKey) -> Option<BackendIndex> {
        None
    }

    fn fragment(&self, _: &FragmentKey) -> Option<FragmentEntry> {
        None
    }

    fn remember_fragment(&self, _: &FragmentKey, _: &FragmentEntry) {}

    fn hold(&self) {}

    fn allows(&self, _: &LpmKey) -> Option<bool> {
        None
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
        false
    }

    fn watch(&self, _: &Packet, _: u32) {}

    fn watched(&self, _: &Packet, _: Seen, _: Verdict) {}
}

impl Steps for Beside<'_> {}

#[cfg(test)]
mod tests {
    use balancer_common::encap;
    use balancer_common::layout::forward;

    use super::*;
    use crate::model::Protocol;
    use crate::opening::Opening;

    #[test]
    fn what_leaves_has_the_backends_headers_or_does_not_fit() {
        let opening = |length| Opening {
            length,
            ..Opening::new(Protocol::Tcp, "10.0.0.2:4000".parse().unwrap(), "192.0.2.1:80".parse().unwrap())
        };
        let service = ServiceEntry { table_size: 7, ..ServiceEntry::default() };
        let overhead = encap::overhead(forward::IPIP4, 0);
        let backend = BackendEntry {
            mac: [4; 6],
            ifindex: 3,
            address: [u32::from_ne_bytes([10, 0, 0, 9]), 0, 0, 0],
            mtu: 1500,
            overhead,
            forward: forward::IPIP4,
            ..BackendEntry::default()
        };
        let (frame, ifindex) = forwarded(opening(1480).frame(), &service, &backend).unwrap();
        assert_eq!((frame.len(), ifindex, &frame[..6], &frame[30..34]), (1514, 3, &[4; 6][..], &[10, 0, 0, 9][..]));
        // The TTL of the packet inside is one less.
        assert_eq!(frame[34 + 8], 63);
        assert!(forwarded(opening(1481).frame(), &service, &backend).is_none());
    }
}
