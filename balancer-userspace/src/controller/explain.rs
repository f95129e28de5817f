//! Where a flow goes and why: the packet path itself, in userspace, over the maps as they are.

use std::net::{IpAddr, SocketAddr};

use balancer_common::datapath::{flow_hash, process};
use balancer_common::encap::varied_source;
use balancer_common::frame::VecFrame;
use balancer_common::hash;
use balancer_common::headers::{PROTOCOL_TCP, TCP_SYN};
use balancer_common::layout::forward;
use balancer_common::parse::{Parsed, parse};
use balancer_common::tables::Tables;
use balancer_common::verdict::Verdict;

use super::running::{Running, id};
use crate::control::api::{Explanation, Flow, Route};
use crate::controller::handle::Refusal;
use crate::dataplane::KernelTables;
use crate::model::{BackendName, ServiceName};

impl Running {
    pub(super) fn explain(&self, flow: &Flow) -> Result<Explanation, Refusal> {
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return Err(Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned()));
        }
        let tables = KernelTables(&self.plane);
        let mut frame = VecFrame(first_packet(flow));
        let Parsed::Packet(packet) = parse(&mut frame) else {
            return Err(Refusal::Failed("the packet of this flow could not be made".to_owned()));
        };
        let mut steps = Vec::new();
        let entry = tables.service(&packet.destination).map(|entry| *entry);
        let service = self.config.services.iter().find(|service| {
            SocketAddr::new(service.address, service.port) == flow.destination && service.protocol == flow.protocol
        });
        let (Some(entry), Some(service)) = (entry, service) else {
            steps.push(format!(
                "no service is on {} {}: the packet passes to this host",
                flow.protocol, flow.destination
            ));
            let verdict = "pass".to_owned();
            return Ok(Explanation { flow: *flow, verdict, reason: None, steps, route: None });
        };
        steps.push(format!("service {} is on {} {}", service.name, flow.protocol, flow.destination));
        let hash = flow_hash(&packet, &entry);
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
        let backend = tables.backend(owners.owner()).map(|backend| *backend);
        let (Some(backend), Some(owner)) = (backend, self.owner_name(&service.name, owners.owner())) else {
            return Err(Refusal::Failed(format!("slot {slot} names index {}, which no backend has", owners.owner())));
        };
        let settled_owner = self.owner_name(&service.name, owners.settled()).unwrap_or_else(|| owner.clone());
        let generation = self.programmed.get(&service.name).map_or(0, |programmed| programmed.generation);
        steps.push(format!("the slot's owner is {owner}, put there by generation {generation}"));
        let address = service.backends.iter().find(|b| b.name == owner).map_or(service.address, |b| b.address);
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
            backend: owner.clone(),
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

    fn owner_name(&self, service: &ServiceName, index: u16) -> Option<BackendName> {
        let service = self.service(service)?;
        let has = |allocated: &crate::state::Allocated| allocated.index == index;
        let owns = |name: &&crate::model::Backend| self.allocations.backends.get(&id(service, name)).is_some_and(has);
        service.backends.iter().find(owns).map(|backend| backend.name.clone())
    }
}

/// A minimal packet that opens the flow: a SYN, or an empty datagram.
fn first_packet(flow: &Flow) -> Vec<u8> {
    let protocol = flow.protocol.number();
    let mut transport = [flow.source.port().to_be_bytes(), flow.destination.port().to_be_bytes()].concat();
    if protocol == PROTOCOL_TCP {
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, TCP_SYN, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 8, 0, 0]);
    }
    let mut frame = vec![0; 12];
    match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = (20 + transport.len() as u16).to_be_bytes();
            frame.extend([0x08, 0x00, 0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, transport.len() as u8, protocol, 64]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        _ => {}
    }
    frame.extend(transport);
    frame
}

fn outer_source(backend: &balancer_common::layout::BackendEntry, entropy: u32) -> Option<IpAddr> {
    let last = varied_source(backend, entropy);
    match backend.forward {
        forward::IPIP4 => Some(IpAddr::from(last.to_ne_bytes())),
        forward::IPIP6 => {
            let [a, b, c, _] = backend.outer_source;
            let bytes = [a, b, c, last].map(u32::to_ne_bytes).concat();
            <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
        }
        _ => None,
    }
}
