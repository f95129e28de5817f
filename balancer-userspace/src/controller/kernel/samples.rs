//! First packets of flows that try a table: some of each backend's slots, of those that move and of those that stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use balancer_common::layout::ServiceEntry;
use balancer_common::slot::BackendIndex;

use crate::model::Service;
use crate::opening::Opening;
use crate::plan::slot_of;

/// Slots of each kind that are tried, also where that makes more packets than were asked for.
const OF_A_KIND: u32 = 3;

/// The first packet of a flow, and the slot that it is of.
pub(crate) struct Trying {
    pub(crate) slot: u32,
    pub(crate) frame: Vec<u8>,
}

/// What slots are like to a trial: who owns each, and whether it has just moved there.
pub(crate) struct Kinds {
    /// By slot: twice the owner, and one more where it moved.
    of_slot: Vec<u32>,
    /// By kind: how many of its slots are still to be tried.
    missing: Vec<u32>,
    /// Kinds of which any are.
    left: usize,
}

impl Kinds {
    pub(crate) fn of(owners: &[BackendIndex], moved: &[u32]) -> Self {
        let mut of_slot: Vec<u32> = owners.iter().map(|owner| u32::from(*owner) * 2).collect();
        moved.iter().for_each(|slot| of_slot[*slot as usize] += 1);
        let mut missing = vec![0; 2 << BackendIndex::BITS];
        for kind in &of_slot {
            let there: &mut u32 = &mut missing[*kind as usize];
            *there = (*there + 1).min(OF_A_KIND);
        }
        let left = missing.iter().filter(|slots| **slots > 0).count();
        Self { of_slot, missing, left }
    }

    /// Whether a slot like this is still to be tried.
    pub(crate) fn misses(&self, slot: u32) -> bool {
        self.missing[self.of_slot[slot as usize] as usize] > 0
    }

    fn tried(&mut self, slot: u32) {
        let missing = &mut self.missing[self.of_slot[slot as usize] as usize];
        self.left -= usize::from(*missing == 1);
        *missing = missing.saturating_sub(1);
    }
}

/// First flows of different slots, some of each kind of slot, then others, `most` in all. As many flows are looked through as
/// the table has slots; a kind of very few slots may not be among them.
pub(crate) fn chosen(service: &Service, entry: &ServiceEntry, mut kinds: Kinds, most: usize) -> Vec<Trying> {
    let mut flows: Vec<Trying> = Vec::new();
    let mut seen = vec![false; entry.table_size as usize];
    for number in 0..entry.table_size {
        let room = flows.len() + kinds.left * OF_A_KIND as usize <= most && flows.len() < most;
        if kinds.left == 0 && !room {
            break;
        }
        let source = client(service.address.is_ipv4(), number);
        let slot = slot_of(entry, source, service.port);
        if (room || kinds.misses(slot)) && !std::mem::replace(&mut seen[slot as usize], true) {
            kinds.tried(slot);
            let opening = Opening::new(service.protocol, source, SocketAddr::new(service.address, service.port));
            flows.push(Trying { slot, frame: opening.frame() });
        }
    }
    flows
}

/// Flows of as many different slots as there are, `most` at most.
pub(crate) fn flows(service: &Service, entry: &ServiceEntry, most: usize) -> Vec<Trying> {
    let size = entry.table_size;
    let most = most.min(size as usize);
    let mut seen = vec![false; size as usize];
    let mut flows = Vec::with_capacity(most);
    // After so many flows hardly a slot is left; what is left is no reason to search on.
    for number in 0..size.saturating_mul(24) {
        if flows.len() == most {
            break;
        }
        let source = client(service.address.is_ipv4(), number);
        let slot = slot_of(entry, source, service.port);
        if !std::mem::replace(&mut seen[slot as usize], true) {
            let opening = Opening::new(service.protocol, source, SocketAddr::new(service.address, service.port));
            flows.push(Trying { slot, frame: opening.frame() });
        }
    }
    flows
}

/// A client of 11.0.0.0/8 or 2001:db8:b::/96.
fn client(v4: bool, number: u32) -> SocketAddr {
    let host = number & 0x00ff_ffff;
    let address: IpAddr = if v4 {
        Ipv4Addr::from_bits(11 << 24 | host).into()
    } else {
        Ipv6Addr::from_bits(0x2001_0db8_000b << 80 | u128::from(host)).into()
    };
    SocketAddr::new(address, 1024 + (number % 60_000) as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{Numbering, Placed, plan_service};
    use crate::spec;

    #[test]
    fn each_backend_and_what_moved_to_it_is_tried_with_few_packets() {
        let mut text = "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"s\"\nprotocol = \"tcp\"\n\
                        address = \"192.0.2.1\"\nport = 80\nforward = \"l2\"\n"
            .to_owned();
        for number in 1..=100 {
            text += &format!("[[service.backend]]\nname = \"b{number}\"\naddress = \"10.0.0.{number}\"\n");
        }
        let config = spec::parse("f.toml", &text).unwrap();
        let service = &config.services[0];
        let placed: Vec<Placed> = (1..)
            .zip(&service.backends)
            .map(|(index, backend)| Placed { index, weight: backend.weight, next_hop: None, dead: false })
            .collect();
        let plan = plan_service(service, &placed, &Numbering::default(), &config.node);
        let owners = plan.owners();
        let moved: Vec<u32> = (0..owners.len() as u32).filter(|slot| slot % 20 == 0).collect();
        let flows = chosen(service, &plan.entry, Kinds::of(&owners, &moved), 512);
        let tried = |moved: bool| -> BTreeSet<BackendIndex> {
            let slots = flows.iter().filter(|flow| (flow.slot % 20 == 0) == moved);
            slots.map(|flow| owners[flow.slot as usize]).collect()
        };
        assert_eq!((tried(false).len(), tried(true).len()), (100, 100));
        assert!(flows.len() <= 600, "{}", flows.len());
        let different: BTreeSet<u32> = flows.iter().map(|flow| flow.slot).collect();
        assert_eq!(different.len(), flows.len());
    }
}
