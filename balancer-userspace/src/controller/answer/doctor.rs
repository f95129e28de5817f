//! What the doctor needs of the controller: what it knows of its host and backends, ports whose flows a backend has, and
//! frames put into the program. Each is answered at once; the doctor itself runs in the task of whoever asked.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::Result;
use balancer_common::layout::{ServiceEntry, flags};
use balancer_common::slot::{BackendIndex, NO_BACKEND, Slot};
use nix::ifaddrs::getifaddrs;
use tokio::time::Instant;

use crate::control::api::Examined;
use crate::controller::desired::Desired;
use crate::controller::handle::{Handle, Refusal};
use crate::controller::kernel::Kernel;
use crate::controller::observed::gate::AtGate;
use crate::controller::requests::Examine;
use crate::controller::state::{State, id, wanted};
use crate::dataplane::Attached;
use crate::doctor::{self, Filled, Known, Patient, Plane, Way, room};
use crate::model::{Backend, BackendId, BackendName, CheckKind, Protocol, Service, ServiceName};
use crate::neighbor::Reachability;
use crate::plan::slot_of;
use crate::spec::lint::longest_packet;

/// Ports of flows that go to one backend: as many as the doctor asks from, at most.
const PORTS: usize = 32;
/// Below are those of servers.
const FIRST_PORT: u16 = 1024;

impl Handle {
    /// Examines the host, and the ways to all backends, those of one service, or one.
    pub async fn doctor(&self, request: Examine) -> Result<Examined, Refusal> {
        let deadline = doctor::deadline();
        let mut examined = Examined::default();
        let services = match request.service {
            Some(service) => vec![service],
            None => {
                let known = self.run(|controller| Ok(controller.running.known())).await?;
                examined.findings = doctor::examine_host(&known).await;
                self.run(|controller| Ok(controller.running.desired.service_names())).await?
            }
        };
        let only: Vec<BackendName> = request.backend.into_iter().collect();
        for service in services {
            let of_service = self.examine(service, only.clone(), deadline).await?;
            examined.findings.extend(of_service.findings);
            examined.probed.extend(of_service.probed);
        }
        examined.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(examined)
    }

    /// Examines the ways to these backends of a service; where none is named, to all.
    pub(crate) async fn examine(
        &self,
        service: ServiceName,
        only: Vec<BackendName>,
        deadline: Instant,
    ) -> Result<Examined, Refusal> {
        let patients = self.run(move |controller| controller.running.patients(&service, &only)).await?;
        Ok(doctor::examine_backends(&patients, self, deadline).await)
    }

    pub(crate) async fn waiting(&self) -> Result<Vec<AtGate>, Refusal> {
        self.run(|controller| Ok(controller.running.at_gate())).await
    }

    pub(crate) async fn gate(
        &self,
        backend: BackendId,
        address: IpAddr,
        against: Option<String>,
    ) -> Result<(), Refusal> {
        self.run(move |controller| {
            controller.running.gate(backend, address, against);
            Ok(())
        })
        .await
    }
}

impl Plane for Handle {
    async fn inject(&self, frame: Vec<u8>, ifindex: u32) -> Result<()> {
        let injected = self.run(move |controller| {
            let plane = &mut controller.running.kernel.plane;
            plane.inject(&frame, ifindex).map_err(failed)
        });
        Ok(injected.await?)
    }

    async fn room(&self, backend: &BackendId) -> Option<u16> {
        let backend = backend.clone();
        self.run(move |controller| Ok(controller.running.kernel.entry_of(&backend).map(room))).await.ok().flatten()
    }
}

impl Desired {
    fn service_names(&self) -> Vec<ServiceName> {
        self.config.services.iter().map(|service| service.name.clone()).collect()
    }
}

impl Kernel {
    /// For each backend of the service, this host's address to ask from, and how.
    fn ways(&self, service: &Service) -> Vec<(Option<IpAddr>, Way)> {
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
            let index = self.index_of(&id(service, backend)).unwrap_or(NO_BACKEND);
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

impl State {
    fn known(&self) -> Known {
        let flow_tables = self.desired.config.services.iter().map(|service| Filled {
            map: "flows",
            what: format!("entries of {}'s flow table", service.name),
            setting: "service.connections.flow_table",
            used: self.kernel.programmed.get(&service.name).map_or(0, |programmed| programmed.tracked.flows),
            capacity: service.connections.flow_table.into(),
        });
        let leaves_by = self.observed.reachable.values().filter_map(|reachability| match reachability {
            Reachability::Resolved(hop) => Some(hop.interface.clone()),
            _ => None,
        });
        let checked = self.desired.config.services.iter().filter(|service| service.health.kind != CheckKind::None);
        Known {
            interfaces: self.interface_statuses(),
            leaves_by: leaves_by.collect(),
            maps: self.map_fill().into_iter().chain(flow_tables).collect(),
            checked: checked.map(|service| service.backends.len()).sum(),
            program: self.kernel.plane.program_id(),
        }
    }

    fn patients(&self, name: &ServiceName, only: &[BackendName]) -> Result<Vec<Patient>, Refusal> {
        let absent = |what: String| Refusal::NotFound(format!("there is no {what}; `balancer status` lists them"));
        let service = self.desired.service(name).ok_or_else(|| absent(format!("service {name}")))?;
        if let Some(stranger) = only.iter().find(|name| !service.backends.iter().any(|b| b.name == **name)) {
            return Err(absent(format!("backend {name}/{stranger}")));
        }
        let pairs = service.backends.iter().zip(self.kernel.ways(service));
        let wanted = pairs.filter(|(backend, _)| only.is_empty() || only.contains(&backend.name));
        Ok(wanted.map(|(backend, (source, way))| self.patient(service, backend, source, way)).collect())
    }

    fn patient(&self, service: &Service, backend: &Backend, source: Option<IpAddr>, way: Way) -> Patient {
        let id = id(service, backend);
        Patient {
            protocol: service.protocol,
            service: SocketAddr::new(service.address, service.port),
            backend: SocketAddr::new(backend.address, backend.port),
            checked: service.health.port.unwrap_or(backend.port),
            reachability: self
                .observed
                .reachable
                .get(&wanted(service, backend))
                .cloned()
                .unwrap_or(Reachability::Pending),
            rules: self
                .kernel
                .programmed
                .get(&service.name)
                .map(|programmed| programmed.plan.entry)
                .unwrap_or_default(),
            entry: self.kernel.entry_of(&id).copied(),
            source,
            outer: source_towards(backend.address),
            way,
            longest: longest_packet(service).min(u32::from(u16::MAX)) as u16,
            id,
        }
    }
}

fn failed(error: anyhow::Error) -> Refusal {
    Refusal::Failed(format!("{error:#}"))
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
fn source_towards(backend: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if backend.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((backend, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
