//! What health checks, routes and neighbours say, taken into what runs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use balancer_common::layout::BackendEntry;

use crate::controller::handle::Refusal;
use crate::controller::state::{State, id, wanted};
use crate::health::{Health, Report, Target};
use crate::model::{Backend, BackendId, CheckKind, Service, ServiceName};
use crate::neighbor::{Event, NextHop, Reachability, Wanted};
use crate::state::Healths;

impl State {
    fn pairs(&self) -> impl Iterator<Item = (&Service, &Backend)> {
        self.desired
            .config
            .services
            .iter()
            .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
    }

    /// Forgets the health of backends that went or now are somewhere else: what comes back is unknown until it is probed.
    pub(crate) fn forget_strangers(&mut self) {
        let present: HashMap<BackendId, SocketAddr> =
            self.pairs().map(|(service, backend)| (id(service, backend), probed_at(service, backend))).collect();
        self.observed
            .checked
            .retain(|id, checked| present.get(id).is_some_and(|at| checked.at.is_none_or(|was| was == *at)));
        for (id, at) in present {
            self.observed.checked.entry(id).or_default().at = Some(at);
        }
    }

    /// Every address that packets are to be sent to.
    pub(crate) fn wanted(&self) -> HashSet<Wanted> {
        self.pairs().map(|(service, backend)| wanted(service, backend)).collect()
    }

    /// What is to be checked, with the health known so far.
    pub(crate) fn targets(&self) -> Vec<(Target, Health)> {
        let checked = self.pairs().filter(|(service, _)| service.health.kind != CheckKind::None);
        let target = |(service, backend): (&Service, &Backend)| {
            let id = id(service, backend);
            let address = probed_at(service, backend);
            let health = self.observed.checked.get(&id).map_or(Health::Unknown, |checked| checked.health);
            (Target { id, address, check: service.health.clone() }, health)
        };
        checked.map(target).collect()
    }

    /// Names in `dirty` the service whose tables the report changes.
    pub(crate) fn note_report(&mut self, report: Report, dirty: &mut BTreeSet<ServiceName>) {
        let Report { id, address, health, changed, took, failures, error } = report;
        // The last word about a backend that went, or from where it was before.
        if self.observed.checked.get(&id).is_none_or(|checked| checked.at != Some(address)) {
            return;
        }
        if changed {
            match (&health, &error) {
                (Health::Up, _) => log::info!("{id} is up"),
                (_, Some(error)) => log::warn!("{id} is down: {error}"),
                (_, None) => log::warn!("{id} is down"),
            }
        }
        let checked = self.observed.checked.entry(id.clone()).or_default();
        if checked.health != health {
            let word = if health == Health::Up { "up" } else { "down" };
            self.observed.because.push(format!("{id} is {word}"));
            dirty.insert(id.service);
        }
        checked.health = health;
        checked.took = Some(took);
        checked.failures = failures;
        checked.error = error;
    }

    pub(crate) fn note_event(&mut self, event: Event, dirty: &mut BTreeSet<ServiceName>) {
        match event {
            Event::Link(link) if !link.present => self.lose_interface(&link.name),
            Event::Link(link) => self.regain_interface(&link.name),
            Event::Reachability(changes) => {
                let mut touched = HashSet::new();
                for (wanted, reachability) in changes {
                    // Before the first answer an adopted next hop is as good as any.
                    if reachability != Reachability::Pending
                        && self.observed.reachable.get(&wanted) != Some(&reachability)
                    {
                        touched.insert(wanted);
                        self.observed.reachable.insert(wanted, reachability);
                    }
                }
                let touches = |(service, backend): &(&Service, &Backend)| touched.contains(&wanted(service, backend));
                let services: Vec<ServiceName> = self.pairs().filter(touches).map(|(s, _)| s.name.clone()).collect();
                dirty.extend(services);
            }
        }
    }

    /// Takes in what a router said of the way to a backend; answers whose entries change by it.
    pub(crate) fn learn_path(&mut self, address: IpAddr, mtu: u32) -> BTreeSet<ServiceName> {
        let services = self.services_at(&[address]);
        // Anybody can send an error about an address of his choice.
        if services.is_empty() || !self.observed.paths.learn(address, mtu, Instant::now()) {
            return BTreeSet::new();
        }
        log::info!("the way to {address} takes packets of {mtu} bytes at most");
        services
    }

    /// Forgets path MTUs that are old; answers whose entries change by it.
    pub(crate) fn forget_paths(&mut self) -> BTreeSet<ServiceName> {
        let gone = self.observed.paths.expire(Instant::now());
        self.services_at(&gone)
    }

    pub(crate) fn release_fragments(&mut self) {
        self.kernel.held.release(&mut self.kernel.plane, Instant::now());
    }

    fn services_at(&self, addresses: &[IpAddr]) -> BTreeSet<ServiceName> {
        let there = self.pairs().filter(|(_, backend)| addresses.contains(&backend.address));
        there.map(|(service, _)| service.name.clone()).collect()
    }

    /// Until the kernel is asked anew, backends are reached as the earlier controller reached them.
    pub(crate) fn keep_next_hops(&mut self) {
        let mut kept = Vec::new();
        for (service, backend) in self.pairs() {
            if let Some(entry) = self.entry_of(&id(service, backend)) {
                kept.push((wanted(service, backend), Reachability::Resolved(next_hop(entry, backend.address))));
            }
        }
        self.observed.reachable.extend(kept);
    }

    /// Whether every backend was probed and looked up at least once.
    pub(crate) fn knows_enough(&self) -> bool {
        self.pairs().all(|(service, backend)| {
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
            |(id, checked): (&BackendId, &crate::controller::observed::HealthState)| (id.clone(), checked.health);
        let healths: Healths = self.observed.checked.iter().map(known).collect();
        if let Err(error) = self.store.save_healths(&healths) {
            log::warn!("{error:#}");
        }
    }

    /// Whether the last write to the kernel failed.
    pub(crate) fn out_of_step(&self) -> bool {
        !self.kernel.is_in_step() || !self.kernel.pending.is_empty()
    }

    pub(crate) fn ready(&self) -> Result<(), Refusal> {
        if self.out_of_step() {
            return Err(Refusal::Failed(
                "the last write to the kernel failed; it is tried again each second".to_owned(),
            ));
        }
        let detached: Vec<&str> =
            self.kernel.interfaces.iter().filter(|(_, state)| state.is_err()).map(|(name, _)| name.as_str()).collect();
        if detached.is_empty() {
            return Ok(());
        }
        Err(Refusal::Failed(format!("not attached to {}", detached.join(", "))))
    }
}

/// Where the backend's health is asked for.
fn probed_at(service: &Service, backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.address, service.health.port.unwrap_or(backend.port))
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
