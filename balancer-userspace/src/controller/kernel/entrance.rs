//! How a frame gets to a backend: by the program, from ports whose flows the backend has, or by a socket.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use balancer_common::layout::{ServiceEntry, flags};
use balancer_common::slot::{BackendIndex, NO_BACKEND, Slot};
use nix::ifaddrs::getifaddrs;

use crate::controller::kernel::Kernel;
use crate::dataplane::Attached;
use crate::doctor::Way;
use crate::model::{Protocol, Service};
use crate::plan::slot_of;

/// Ports of flows that go to one backend: as many as the doctor asks from, at most.
const PORTS: usize = 32;
/// Below are those of servers.
const FIRST_PORT: u16 = 1024;

impl Kernel {
    /// For each backend of the service, this host's address to ask from, and how.
    pub(crate) fn ways(&self, service: &Service) -> Vec<(Option<IpAddr>, Way)> {
        let programmed = self.programmed.get(&service.name);
        let table = programmed.and_then(|programmed| {
            let entry = programmed.plan.entry;
            Some((entry, self.plane.read_table(entry.table, entry.table_size).ok()?))
        });
        let mut found: Vec<(IpAddr, Vec<Vec<u16>>)> = Vec::new();
        let ways = service.backends.iter().map(|backend| {
            let Some(source) = source_for(service.address, backend.address) else {
                return (None, Way::Socket("this host has no address of the service's family".to_owned()));
            };
            if service.protocol == Protocol::Sctp {
                return (Some(source), Way::Socket("an INIT of the doctor's would be refused".to_owned()));
            }
            let Some((entry, table)) = &table else {
                return (Some(source), Way::Socket("the service's table can't be read".to_owned()));
            };
            if entry.has(flags::GUARDED) {
                let reason = "lists or rates of the service could refuse this host".to_owned();
                return (Some(source), Way::Socket(reason));
            }
            let index = self.index_of(&service.id_of(backend)).unwrap_or(NO_BACKEND);
            let known = found.iter().position(|(of, _)| *of == source);
            let at = known.unwrap_or_else(|| {
                found.push((source, ports(service, entry, table, source)));
                found.len() - 1
            });
            let ports = found[at].1.get(usize::from(index)).cloned().unwrap_or_default();
            let way = match (self.entrance(index), ports.is_empty()) {
                (Some((ifindex, native)), false) => Way::Program { ports, ifindex, native },
                (Some(_), true) => Way::Socket("no flow of this host's address goes there now".to_owned()),
                (None, _) => Way::Socket("the program is on no interface".to_owned()),
            };
            (Some(source), way)
        });
        ways.collect()
    }

    /// Where a frame for a backend is to come in: by the interface that it leaves by, if the program is there.
    fn entrance(&self, backend: BackendIndex) -> Option<(u32, bool)> {
        let leaves_by = self.image.backends.get(&backend).map(|entry| entry.ifindex);
        let attached = self.interfaces.iter().filter_map(|(name, state)| {
            let mode = state.as_ref().ok()?;
            Some((nix::net::if_::if_nametoindex(name.as_str()).ok()?, *mode == Attached::Native))
        });
        attached.min_by_key(|(ifindex, _)| Some(*ifindex) != leaves_by)
    }
}

/// By index of the backend: ports of flows from `source` to the service's lowest port whose slots are the backend's, and
/// were before.
fn ports(service: &Service, entry: &ServiceEntry, table: &[Slot], source: IpAddr) -> Vec<Vec<u16>> {
    let mut ports: Vec<Vec<u16>> = Vec::new();
    for port in FIRST_PORT..=u16::MAX {
        let slot = slot_of(entry, SocketAddr::new(source, port), service.port);
        let Some(slot) = table.get(slot as usize) else { continue };
        let owner = usize::from(slot.owner());
        if slot.is_open() {
            continue;
        }
        if ports.len() <= owner {
            ports.resize(owner + 1, Vec::new());
        }
        if ports[owner].len() < PORTS {
            ports[owner].push(port);
        }
    }
    ports
}

/// This host's address towards a backend, in the service's family.
fn source_for(service: IpAddr, backend: IpAddr) -> Option<IpAddr> {
    if service.is_ipv4() == backend.is_ipv4() {
        return source_towards(backend);
    }
    getifaddrs().ok()?.find_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = address.as_sockaddr_in6().map(|address| address.ip()).filter(|ip| !ip.is_unicast_link_local());
        v4.or(v6.map(IpAddr::V6)).filter(|own| own.is_ipv4() == service.is_ipv4() && !own.is_loopback())
    })
}

/// The address that the routing table chooses. Nothing is sent.
pub(crate) fn source_towards(backend: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if backend.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((backend, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
