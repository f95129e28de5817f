//! Where a flow goes and why: the packet path itself, in userspace, over the maps as they are.

use std::net::IpAddr;

use balancer_common::datapath::process;
use balancer_common::encap::varied_source;
use balancer_common::frame::{Frame, VecFrame};
use balancer_common::headers::{Be16, Ipv4, PROTOCOL_SCTP, PROTOCOL_TCP, TCP_SYN};
use balancer_common::layout::{BackendEntry, forward};
use balancer_common::parse::{NETWORK, Packet, Parsed, parse};
use balancer_common::tables::Tables;
use balancer_common::verdict::Verdict;
use balancer_common::{checksum, hash, lookup};

use super::running::Running;
use crate::control::api::{Explanation, Flow, Route};
use crate::controller::handle::Refusal;
use crate::dataplane::KernelTables;
use crate::model::{BackendName, Service, ServiceName};

impl Running {
    pub(super) fn explain(&self, flow: &Flow) -> Result<Explanation, Refusal> {
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return Err(Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned()));
        }
        let tables = KernelTables::new(&self.plane);
        let mut frame = VecFrame(first_packet(flow));
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

/// A minimal packet that opens the flow: a SYN, or an empty datagram.
fn first_packet(flow: &Flow) -> Vec<u8> {
    let protocol = flow.protocol.number();
    let mut transport = [flow.source.port().to_be_bytes(), flow.destination.port().to_be_bytes()].concat();
    if protocol == PROTOCOL_TCP {
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, TCP_SYN, 0xff, 0xff, 0, 0, 0, 0]);
    } else if protocol == PROTOCOL_SCTP {
        // Tag and checksum, and an INIT chunk.
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]);
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
    let mut frame = VecFrame(frame);
    if flow.source.is_ipv4()
        && let Some(ip) = frame.at::<Ipv4>(NETWORK)
    {
        ip.checksum = Be16(!checksum::of_ipv4(ip));
    }
    frame.0
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
