//! Where a flow goes and why: the packet path itself, in userspace, over the maps as they are.

use std::net::IpAddr;

use balancer_common::datapath::process;
use balancer_common::encap::varied_source;
use balancer_common::frame::VecFrame;
use balancer_common::layout::{BackendEntry, forward};
use balancer_common::parse::{Packet, Parsed, parse};
use balancer_common::tables::Tables;
use balancer_common::verdict::Verdict;
use balancer_common::{hash, lookup};

use super::running::Running;
use crate::control::api::{Explanation, Flow, Route};
use crate::controller::handle::Refusal;
use crate::dataplane::KernelTables;
use crate::model::{BackendName, Service, ServiceName};
use crate::opening::Opening;

impl Running {
    pub(super) fn explain(&self, flow: &Flow) -> Result<Explanation, Refusal> {
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return Err(Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned()));
        }
        let tables = KernelTables::new(&self.plane);
        let mut frame = VecFrame(Opening::new(flow.protocol, flow.source, flow.destination).frame());
        let mut packet = Packet::default();
        let Parsed::Packet = parse(&mut frame, &mut packet) else {
            return Err(Refusal::Failed(
                "a packet of this flow can't be made; no client has such an address".to_owned(),
            ));
        };
        let mut steps = Vec::new();
        let entry = lookup::service(&tables, &packet.destination).map(|entry| *entry);
        let service = entry.and_then(|entry| self.numbered(entry.number));
        let (Some(entry), Some(service)) = (entry, service) else {
            steps.push(format!(
                "no service is on {} {}: the packet passes to this host",
                flow.protocol, flow.destination
            ));
            let verdict = "pass".to_owned();
            return Ok(Explanation { flow: *flow, verdict, reason: None, steps, route: None });
        };
        steps.push(format!("service {} is on {} {}", service.name, flow.protocol, flow.destination));
        let ports = packet.ports() & entry.port_mask;
        let hash = hash::of_flow(&entry.keys, packet.is_ipv6(), &packet.source(), ports);
        let slot = hash::slot(hash, entry.table_size);
        let inputs = if entry.port_mask == 0 { "the client's address" } else { "the 5-tuple" };
        steps.push(format!("{inputs} hashes to {hash:016x}, slot {slot} of {}", entry.table_size));
        let owners = tables.slot(entry.table, slot).unwrap_or_default();
        let verdict = process(&mut frame, &tables);
        if let Verdict::Drop(reason) = verdict {
            steps.push(format!("the packet is dropped: {}", reason.label()));
            let verdict = "drop".to_owned();
            return Ok(Explanation {
                flow: *flow,
                verdict,
                reason: Some(reason.label().to_owned()),
                steps,
                route: None,
            });
        }
        let chosen = tables.seen().map_or(owners.owner(), |seen| seen.backend);
        let entry_of_chosen = tables.backend(chosen).map(|backend| *backend);
        let (Some(backend), Some(chosen)) = (entry_of_chosen, self.owner_name(&service.name, chosen)) else {
            return Err(Refusal::Failed(format!("slot {slot} names index {chosen}, which no backend has")));
        };
        let owner = self.owner_name(&service.name, owners.owner()).unwrap_or_else(|| chosen.clone());
        let settled_owner = self.owner_name(&service.name, owners.settled()).unwrap_or_else(|| owner.clone());
        let generation = self.programmed.get(&service.name).map_or(0, |programmed| programmed.generation);
        steps.push(format!("the slot's owner is {owner}, put there by generation {generation}"));
        if owners.is_open() {
            steps.push(format!("the slot is open: flows from before its last change stay with {settled_owner}"));
        }
        if chosen != owner {
            steps.push(format!("this flow is known, or older than the change: it stays with {chosen}"));
        }
        let address = address_of(&backend);
        let interface = nix::net::if_::if_indextoname(backend.ifindex)
            .map_or_else(|_| format!("#{}", backend.ifindex), |name| name.to_string_lossy().into_owned());
        let mac = backend.mac.map(|byte| format!("{byte:02x}")).join(":");
        steps.push(format!("it leaves by {interface} to {mac}, for {address}"));
        let outer_source = outer_source(&backend, hash::entropy(hash));
        if let Some(source) = outer_source {
            steps.push(format!("the outer header is from {source} to {address}"));
        }
        let rewritten_port = (backend.forward == forward::NAT).then(|| u16::from_be(backend.port));
        let route = Route {
            service: service.name.clone(),
            hash: format!("{hash:016x}"),
            slot,
            table_size: entry.table_size,
            backend: chosen,
            owner,
            settled_owner,
            address,
            forward: service.forward,
            generation,
            interface,
            next_hop_mac: mac,
            outer_source,
            rewritten_port,
        };
        Ok(Explanation { flow: *flow, verdict: "forward".to_owned(), reason: None, steps, route: Some(route) })
    }

    pub(super) fn numbered(&self, number: u16) -> Option<&Service> {
        let (name, _) = self.allocations.services.iter().find(|(_, there)| **there == number)?;
        self.service(name)
    }

    /// Who has an index: a backend of the service, or one that is leaving it.
    pub(super) fn owner_name(&self, service: &ServiceName, index: u16) -> Option<BackendName> {
        let present = self.allocations.backends.iter().map(|(id, allocated)| (id, allocated.index));
        let leaving = self.allocations.leaving.iter().map(|left| (&left.id, left.allocated.index));
        let mut all = present.chain(leaving);
        all.find(|(id, there)| id.service == *service && *there == index).map(|(id, _)| id.backend.clone())
    }
}

pub(super) fn address_of(backend: &BackendEntry) -> IpAddr {
    match backend.address {
        [four, 0, 0, 0] => IpAddr::from(four.to_ne_bytes()),
        six => v6(six),
    }
}

pub(super) fn v6(words: [u32; 4]) -> IpAddr {
    let bytes = words.map(u32::to_ne_bytes).concat();
    <[u8; 16]>::try_from(bytes).map_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), IpAddr::from)
}

fn outer_source(backend: &BackendEntry, entropy: u32) -> Option<IpAddr> {
    let last = varied_source(backend, entropy);
    match backend.forward {
        forward::IPIP4 | forward::GUE4 => Some(IpAddr::from(last.to_ne_bytes())),
        forward::IPIP6 | forward::GUE6 => {
            let [a, b, c, _] = backend.outer_source;
            Some(v6([a, b, c, last]))
        }
        _ => None,
    }
}
