//! What health checks, routes and neighbours say, taken into what runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime};

use balancer_common::layout::BackendEntry;

use crate::controller::desired::Desired;
use crate::controller::handle::Refusal;
use crate::controller::kernel::Kernel;
use crate::controller::observed::HealthState;
use crate::controller::observed::Observed;
use crate::controller::observed::paths::encapsulates;
use crate::controller::state::{State, id, wanted};
use crate::health::{Health, Report, Target};
use crate::model::{Backend, BackendId, CheckKind, Service, ServiceName};
use crate::neighbor::{Event, NextHop, Reachability, Wanted};
use crate::state::Healths;

impl Desired {
    fn pairs(&self) -> impl Iterator<Item = (&Service, &Backend)> {
        self.config.services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
    }

    /// Every address that packets are to be sent to.
    pub(crate) fn wanted(&self) -> HashSet<Wanted> {
        self.pairs().map(|(service, backend)| wanted(service, backend)).collect()
    }

    fn tunnelled_to(&self, addresses: &[IpAddr]) -> BTreeSet<ServiceName> {
        let there =
            |(service, backend): &(&Service, &Backend)| encapsulates(service) && addresses.contains(&backend.address);
        self.pairs().filter(there).map(|(service, _)| service.name.clone()).collect()
    }
}

impl Observed {
    /// Names in `dirty` the service whose tables the report changes.
    pub(crate) fn note_report(&mut self, report: Report, dirty: &mut BTreeSet<ServiceName>) {
        let Report { id, address, health, changed, took, failures, error, blind } = report;
        // The last word about a backend that went, or from where it was before.
        if self.checked.get(&id).is_none_or(|checked| checked.at != Some(address)) {
            return;
        }
        if changed {
            match (&health, &error) {
                (Health::Up, _) => log::info!("{id} is up"),
                (_, Some(error)) => log::warn!("{id} is down: {error}"),
                (_, None) => log::warn!("{id} is down"),
            }
        }
        let checked = self.checked.entry(id.clone()).or_default();
        if checked.health != health {
            let word = if health == Health::Up { "up" } else { "down" };
            self.because.push(format!("{id} is {word}"));
            dirty.insert(id.service);
        }
        if let Some(why) = blind {
            let since = checked.blind.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
            checked.blind = Some((why, since));
            return;
        }
        checked.blind = None;
        checked.health = health;
        checked.took = Some(took);
        checked.failures = failures;
        checked.error = error;
    }

    /// What a router said that the way takes, and what the link takes; none where that is no less.
    pub(crate) fn path_mtu(&self, service: &Service, backend: &Backend) -> Option<(u32, u32)> {
        let told = self.paths.told(service, backend)?;
        let Reachability::Resolved(next_hop) = self.reachable.get(&wanted(service, backend))? else {
            return None;
        };
        (told < next_hop.mtu).then_some((told, next_hop.mtu))
    }
}

impl Kernel {
    pub(crate) fn release_fragments(&mut self) {
        self.held.release(&mut self.plane, Instant::now());
    }

    /// Whether the last write to the kernel failed.
    pub(crate) fn out_of_step(&self) -> bool {
        !self.is_in_step() || !self.pending.is_empty()
    }
}

impl State {
    /// Forgets the health of backends that went or now are somewhere else: what comes back is unknown until it is probed.
    /// Another port of the check is no other server.
    pub(crate) fn forget_strangers(&mut self) {
        let present: HashMap<BackendId, SocketAddr> = self
            .desired
            .pairs()
            .map(|(service, backend)| (id(service, backend), probed_at(service, backend)))
            .collect();
        self.observed
            .checked
            .retain(|id, checked| present.get(id).is_some_and(|at| checked.at.is_none_or(|was| was.ip() == at.ip())));
        for (id, at) in present {
            self.observed.checked.entry(id).or_default().at = Some(at);
        }
    }

    /// What is to be checked, with the health known so far.
    pub(crate) fn targets(&self) -> Vec<(Target, Health)> {
        let checked = self.desired.pairs().filter(|(service, _)| service.health.kind != CheckKind::None);
        let target = |(service, backend): (&Service, &Backend)| {
            let id = id(service, backend);
            let address = probed_at(service, backend);
            let health = self.observed.checked.get(&id).map_or(Health::Unknown, |checked| checked.health);
            (Target { id, address, check: service.health.clone() }, health)
        };
        checked.map(target).collect()
    }

    pub(crate) fn note_event(&mut self, event: Event, dirty: &mut BTreeSet<ServiceName>) {
        match event {
            Event::Link(link) => {
                self.observed.links.note(&link.name, link.up, Instant::now());
                if link.present {
                    self.regain_interface(&link.name);
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
        let touches = |(service, backend): &(&Service, &Backend)| touched.contains(&wanted(service, backend));
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
            let wanted = wanted(service, backend);
            let Some(Reachability::Resolved(hop)) = self.observed.reachable.get(&wanted) else { return None };
            let why = links.fault(&hop.interface, now)?;
            let found = !links.is_down(&hop.interface) && !self.observed.doubted.contains_key(&wanted);
            (!found).then_some((backend.address, why))
        };
        self.desired.pairs().filter_map(unseen).collect()
    }

    /// Takes in what a router said of the way to a backend, in an error that the program believed; answers whose entries
    /// change by it.
    pub(crate) fn learn_path(&mut self, address: IpAddr, mtu: u32) -> BTreeSet<ServiceName> {
        let services = self.desired.tunnelled_to(&[address]);
        if services.is_empty() || !self.observed.paths.learn(address, mtu, Instant::now()) {
            return BTreeSet::new();
        }
        log::info!("a router says that the way to {address} takes packets of {mtu} bytes at most");
        services
    }

    /// Forgets path MTUs that are old; answers whose entries change by it.
    pub(crate) fn forget_paths(&mut self) -> BTreeSet<ServiceName> {
        let gone = self.observed.paths.expire(Instant::now());
        self.desired.tunnelled_to(&gone)
    }

    /// Backends to which smaller packets go than their link takes, with both sizes: a router asked for that.
    pub(crate) fn path_mtus(&self) -> impl Iterator<Item = (BackendId, u32, u32)> {
        self.desired.pairs().filter_map(|(service, backend)| {
            let (told, link) = self.observed.path_mtu(service, backend)?;
            Some((id(service, backend), told, link))
        })
    }

    /// Until the kernel is asked anew, backends are reached as the earlier controller reached them.
    pub(crate) fn keep_next_hops(&mut self) {
        let mut kept = Vec::new();
        for (service, backend) in self.desired.pairs() {
            if let Some(entry) = self.kernel.entry_of(&id(service, backend)) {
                kept.push((wanted(service, backend), Reachability::Resolved(next_hop(entry, backend.address))));
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

    /// Whether every backend was probed and looked up at least once.
    pub(crate) fn knows_enough(&self) -> bool {
        self.desired.pairs().all(|(service, backend)| {
            let probed = service.health.kind == CheckKind::None
                || self.observed.checked.get(&id(service, backend)).is_some_and(|checked| checked.took.is_some());
            // The first answer is often that the neighbour is still being resolved.
            let looked_up = !matches!(
                self.observed.reachable.get(&wanted(service, backend)),
                None | Some(Reachability::Pending | Reachability::NoNeighbor { .. })
            );
            probed && looked_up
        })
    }

    pub(crate) fn save_healths(&self) {
        let known =
            |(id, checked): (&BackendId, &HealthState)| (id.clone(), self.observed.health_to_save(id, checked.health));
        let healths: Healths = self.observed.checked.iter().map(known).collect();
        self.store.keep_healths(&healths);
    }

    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        if self.kernel.out_of_step() {
            return Err(Refusal::Failed(
                "the last write to the kernel failed; it is tried again each second".to_owned(),
            ));
        }
        let detached: Vec<&str> =
            self.kernel.interfaces.iter().filter(|(_, state)| state.is_err()).map(|(name, _)| name.as_str()).collect();
        if !detached.is_empty() {
            return Err(Refusal::Failed(format!("not attached to {}", detached.join(", "))));
        }
        match self.store.trouble() {
            Some(why) => Err(Refusal::Failed(format!("packets are forwarded, but changes can't be kept: {why}"))),
            None => Ok(()),
        }
    }
}

/// Where the backend's health is asked for.
fn probed_at(service: &Service, backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address, service.health.port.unwrap_or(backend.port))
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
