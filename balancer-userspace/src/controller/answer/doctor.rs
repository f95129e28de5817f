//! What the doctor needs of the controller: what it knows of its host and backends. Each is answered at once; the doctor
//! itself runs in the task of whoever asked.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::controller::kernel::entrance::source_towards;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::doctor::{Filled, Known, Patient, Way};
use crate::model::{Backend, BackendName, CheckKind, Service, ServiceName};
use crate::neighbor::{Reachability, Wanted};
use crate::spec::lint::longest_packet;

impl State {
    pub(crate) fn known(&self) -> Known {
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
            maps: self.kernel.fill(&self.desired.config.limits).into_iter().chain(flow_tables).collect(),
            checked: checked.map(|service| service.backends.len()).sum(),
            program: self.kernel.plane.program_id(),
        }
    }

    pub(crate) fn patients(&self, name: &ServiceName, only: &[BackendName]) -> Result<Vec<Patient>, Refusal> {
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
        let id = service.id_of(backend);
        Patient {
            protocol: service.protocol,
            service: SocketAddr::new(service.address, service.port),
            backend: SocketAddr::new(backend.address, backend.port),
            checked: service.health.port.unwrap_or(backend.port),
            reachability: self
                .observed
                .reachable
                .get(&Wanted::of(service, backend))
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
