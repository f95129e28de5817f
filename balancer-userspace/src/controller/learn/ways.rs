//! What links, routes and neighbours say, taken into what runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use balancer_common::layout::BackendEntry;

use crate::controller::state::State;
use crate::model::{Backend, Service, ServiceName};
use crate::neighbor::{Event, NextHop, Reachability, Wanted};

impl State {
    pub(crate) fn note_event(&mut self, event: Event, dirty: &mut BTreeSet<ServiceName>) {
        match event {
            Event::Link(link) => {
                self.observed.links.note(&link.name, link.up, Instant::now());
                if link.present {
                    self.kernel.regain_interface(&link.name, &self.desired.config.interfaces);
                } else {
                    self.kernel.lose_interface(&link.name);
                }
            }
            Event::Reachability(changes) => self.note_ways(changes, Instant::now(), dirty),
        }
    }

    fn note_ways(&mut self, ways: Vec<(Wanted, Reachability)>, now: Instant, dirty: &mut BTreeSet<ServiceName>) {
        let mut touched = HashSet::new();
        for (wanted, said) in ways {
            let before = self.observed.reachable.get(&wanted);
            self.observed.doubted.remove(&wanted);
            // Before the first answer an adopted next hop is as good as any.
            if said == Reachability::Pending || before == Some(&said) {
                continue;
            }
            if self.observed.links.believe(before, &said, now) {
                touched.insert(wanted);
                self.observed.reachable.insert(wanted, said);
            } else {
                self.observed.doubted.insert(wanted, said);
            }
        }
        let touches = |(service, backend): &(&Service, &Backend)| touched.contains(&Wanted::of(service, backend));
        let services: Vec<ServiceName> = self.desired.pairs().filter(touches).map(|(s, _)| s.name.clone()).collect();
        dirty.extend(services);
    }

    /// Believes what was doubted because of an own link that has been up for long enough by now; answers whose entries
    /// change by it.
    pub(crate) fn settle_doubts(&mut self) -> BTreeSet<ServiceName> {
        let mut dirty = BTreeSet::new();
        if !self.observed.doubted.is_empty() {
            let wanted = self.desired.wanted();
            let doubted = std::mem::take(&mut self.observed.doubted);
            let there = doubted.into_iter().filter(|(doubted, _)| wanted.contains(doubted)).collect();
            self.note_ways(there, Instant::now(), &mut dirty);
        }
        dirty
    }

    /// Backends that this host does not reach at the moment by its own fault: where they are, and why.
    pub(crate) fn unseen(&self) -> HashMap<IpAddr, String> {
        let (links, now) = (&self.observed.links, Instant::now());
        if links.are_well() {
            return HashMap::new();
        }
        let unseen = |(service, backend): (&Service, &Backend)| {
            let wanted = Wanted::of(service, backend);
            let Some(Reachability::Resolved(hop)) = self.observed.reachable.get(&wanted) else { return None };
            let why = links.fault(&hop.interface, now)?;
            let found = !links.is_down(&hop.interface) && !self.observed.doubted.contains_key(&wanted);
            (!found).then_some((backend.address, why))
        };
        self.desired.pairs().filter_map(unseen).collect()
    }

    /// Until the kernel is asked anew, backends are reached as the earlier controller reached them.
    pub(crate) fn keep_next_hops(&mut self) {
        let mut kept = Vec::new();
        for (service, backend) in self.desired.pairs() {
            if let Some(entry) = self.kernel.entry_of(&service.id_of(backend)) {
                kept.push((Wanted::of(service, backend), Reachability::Resolved(next_hop(entry, backend.address))));
            }
        }
        self.observed.reachable.extend(kept);
    }

    /// Until the kernel is asked anew, a backend whose packets are to be forwarded in another way is reached as before.
    pub(crate) fn carry_ways(&mut self) {
        let reachable = &self.observed.reachable;
        let carried = |wanted: Wanted| {
            let other = reachable.get(&Wanted { on_link: !wanted.on_link, ..wanted });
            let way = other.filter(|way| serves(way, &wanted) && !reachable.contains_key(&wanted))?;
            Some((wanted, way.clone()))
        };
        let carried: Vec<_> = self.desired.wanted().into_iter().filter_map(carried).collect();
        self.observed.reachable.extend(carried);
    }
}

/// Whether packets get there by this way: on a link there is no gateway.
fn serves(way: &Reachability, wanted: &Wanted) -> bool {
    matches!(way, Reachability::Resolved(hop) if !wanted.on_link || hop.via == wanted.address)
}

fn next_hop(entry: &BackendEntry, address: IpAddr) -> NextHop {
    let interface = nix::net::if_::if_indextoname(entry.ifindex);
    NextHop {
        ifindex: entry.ifindex,
        interface: interface.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        vlan: entry.vlan,
        source_mac: entry.source_mac,
        mac: entry.mac,
        mtu: u32::from(entry.mtu),
        via: address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_by_a_gateway_is_none_on_a_link() {
        let hop = NextHop::example();
        let (beside, beyond) = (hop.via, IpAddr::from([198, 51, 100, 7]));
        let way = Reachability::Resolved(hop);
        let to = |address, on_link| Wanted { address, on_link };
        assert!(
            serves(&way, &to(beside, true)) && serves(&way, &to(beside, false)) && serves(&way, &to(beyond, false))
        );
        assert!(!serves(&way, &to(beyond, true)) && !serves(&Reachability::NoRoute, &to(beside, false)));
    }
}
