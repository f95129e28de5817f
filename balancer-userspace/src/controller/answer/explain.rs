//! Where a flow goes and why: by the packet path itself, in userspace, over the maps as they are, and by the loaded program,
//! which must agree. Also where it would go under another config, and where it went.

use std::net::IpAddr;

use balancer_common::datapath::process;
use balancer_common::encap::varied_source;
use balancer_common::frame::VecFrame;
use balancer_common::layout::{BackendEntry, flags, forward};
use balancer_common::parse::{Packet, Parsed, parse};
use balancer_common::tables::Tables;
use balancer_common::verdict::Verdict;
use balancer_common::{hash, lookup};

use crate::control::api::{Elsewhere, Explanation, Flow, ProgramSaid, PutThere, Route};
use crate::controller::kernel::Kernel;
use crate::controller::kernel::entry::{address_of, v6};
use crate::controller::kernel::journal_entry::table_of;
use crate::controller::refusal::Refusal;
use crate::controller::requests::{ConfigText, Explain};
use crate::controller::state::State;
use crate::dataplane::{ANSWERS, KernelTables, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use crate::journal::{Change, Hashed};
use crate::model::{Config, Guard, Protocol, Service};
use crate::opening::Opening;
use crate::plan::{Numbering, Placed, plan_service};
use crate::spec::Loaded;

impl Kernel {
    /// At an earlier time, with the backends that took flows then.
    pub(crate) fn then(&self, packet: &Packet, at: &str, explanation: &Explanation) -> Result<Elsewhere, Refusal> {
        let time = humantime::parse_rfc3339_weak(at)
            .map_err(|error| Refusal::Invalid(format!("{at:?}: {error}; write a time such as 2026-11-21T03:00:00Z")))?;
        let Some(route) = &explanation.route else {
            return Err(Refusal::NotFound("no service is there now; what was there before is not kept".to_owned()));
        };
        let Some(change) = self.journal.at(&route.service, time) else {
            let oldest = self.journal.oldest(&route.service).map_or_else(|| "nothing".to_owned(), |c| c.at.clone());
            let name = &route.service;
            return Err(Refusal::NotFound(format!("tables of {name} are known since {oldest}, not at {at}")));
        };
        if change.secret.is_none() {
            return Err(Refusal::NotFound(format!(
                "{} had another seed, or was on another address, at {at} (generation {}: {}), and no stored config has it \
                 any more: the slot of a flow can't be computed",
                change.service, change.generation, change.cause
            )));
        }
        Ok(elsewhere(
            format!("at {at}, by generation {} ({})", change.generation, change.cause),
            change,
            packet,
            explanation,
        ))
    }
}

impl State {
    pub(crate) fn explain(&mut self, asked: &Explain, with: Option<&Loaded>) -> Result<Explanation, Refusal> {
        let flow = &Flow { protocol: asked.protocol, source: asked.source, destination: asked.destination };
        if flow.source.is_ipv4() != flow.destination.is_ipv4() {
            return Err(Refusal::Invalid("source and destination must both be IPv4 or both be IPv6".to_owned()));
        }
        let frame = Opening::new(flow.protocol, flow.source, flow.destination).frame();
        let mut packet = Packet::default();
        let Parsed::Packet = parse(&mut VecFrame(frame.clone()), &mut packet) else {
            return Err(Refusal::Failed(
                "a packet of this flow can't be made; no client has such an address".to_owned(),
            ));
        };
        let mut explanation = self.explained(flow, &frame, &packet)?;
        explanation.program = self.ask_program(&mut explanation, frame, &packet)?;
        if let (Some(ConfigText { file, .. }), Some(loaded)) = (&asked.with, with) {
            explanation.elsewhere = Some(with_config(flow, &packet, (file, &loaded.config), &explanation));
        } else if let Some(at) = &asked.at {
            explanation.elsewhere = Some(self.kernel.then(&packet, at, &explanation)?);
        }
        Ok(explanation)
    }

    /// By the model, over the maps as they are.
    pub(crate) fn explained(&self, flow: &Flow, frame: &[u8], packet: &Packet) -> Result<Explanation, Refusal> {
        let tables = KernelTables::new(&self.kernel.plane);
        let answer = |verdict: &str, reason: Option<&str>, steps: Vec<String>, route: Option<Route>| Explanation {
            flow: *flow,
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            steps,
            route,
            program: None,
            elsewhere: None,
        };
        let mut steps = Vec::new();
        let entry = lookup::service(&tables, &packet.destination).map(|entry| *entry);
        let service = entry.and_then(|entry| self.numbered(entry.number));
        let (Some(entry), Some(service)) = (entry, service) else {
            let there = format!("{} {}", flow.protocol, flow.destination);
            steps.push(format!("no service is on {there}: the packet passes to this host"));
            return Ok(answer("pass", None, steps, None));
        };
        steps.push(format!("service {} is on {} {}", service.name, flow.protocol, flow.destination));
        steps.push(access(&service.guard));
        let ports = packet.ports() & entry.port_mask;
        let hash = hash::of_flow(&entry.keys, packet.is_ipv6(), &packet.source(), ports);
        let slot = hash::slot(hash, entry.table_size);
        let inputs = if entry.port_mask == 0 { "the client's address" } else { "the 5-tuple" };
        steps.push(format!("{inputs} hashes to {hash:016x}, slot {slot} of {}", entry.table_size));
        let owners = tables.slot(entry.table, slot).unwrap_or_default();
        let verdict = process(&mut VecFrame(frame.to_vec()), &tables);
        if let Verdict::Drop(reason) = verdict {
            steps.push(format!("the packet is dropped: {}", reason.label()));
            return Ok(answer("drop", Some(reason.label()), steps, None));
        }
        let chosen = tables.seen().map_or(owners.owner(), |seen| seen.backend);
        let entry_of_chosen = tables.backend(chosen).map(|backend| *backend);
        let (Some(backend), Some(chosen)) = (entry_of_chosen, self.kernel.owner_name(&service.name, chosen)) else {
            return Err(Refusal::Failed(format!("slot {slot} names index {chosen}, which no backend has")));
        };
        let owner = self.kernel.owner_name(&service.name, owners.owner()).unwrap_or_else(|| chosen.clone());
        let settled_owner = self.kernel.owner_name(&service.name, owners.settled()).unwrap_or_else(|| owner.clone());
        let generation = self.kernel.programmed.get(&service.name).map_or(0, |programmed| programmed.generation);
        let put_there = self.kernel.journal.put_there(&service.name, slot).map(|change| PutThere {
            generation: change.generation,
            at: change.at.clone(),
            cause: change.cause.clone(),
        });
        steps.push(match &put_there {
            Some(PutThere { generation, at, cause }) => {
                format!("the slot's owner is {owner}, put there by generation {generation} at {at}: {cause}")
            }
            None => format!("the slot's owner is {owner}"),
        });
        let open = owners.is_open() || entry.has(flags::FORMER | flags::TRACK_ALL);
        if open {
            steps.push(format!("the slot is open: flows from before its last change stay with {settled_owner}"));
        }
        let to = packet.destination.address();
        let key = hash::identity(&tables.identity_keys(), packet.is_ipv6(), &packet.source(), &to, packet.ports());
        let tracked = open && tables.flow(entry.number, key).is_some();
        if tracked {
            steps.push("the flow is in the flow table".to_owned());
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
        let (mtu, largest_packet) = (backend.mtu, backend.mtu.saturating_sub(backend.overhead));
        steps.push(format!("the way takes packets of {mtu} bytes, {largest_packet} of them the client's"));
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
            rewritten_port: (backend.forward == forward::NAT).then(|| u16::from_be(backend.port)),
            open,
            tracked,
            mtu,
            largest_packet,
            put_there,
        };
        Ok(answer("forward", None, steps, Some(route)))
    }

    /// Has the loaded program decide on the same flow; the packet goes nowhere. What begins a TCP flow would be counted as one,
    /// and in an open slot be remembered, which could move a flow that there is: both decide on a packet from within it then.
    fn ask_program(
        &mut self,
        explanation: &mut Explanation,
        mut frame: Vec<u8>,
        packet: &Packet,
    ) -> Result<Option<ProgramSaid>, Refusal> {
        const FLAGS: usize = 13;
        const ACK: u8 = 0x10;
        match &explanation.route {
            Some(_) if explanation.flow.protocol == Protocol::Tcp => {
                if let Some(flags) = frame.get_mut(packet.transport() + FLAGS) {
                    *flags = ACK;
                }
                explanation.steps.push("the loaded program was asked about a packet from within the flow".to_owned());
            }
            Some(route) if route.open => {
                explanation.steps.push("the loaded program was not asked: it would remember the flow".to_owned());
                return Ok(None);
            }
            _ => {}
        }
        let mut expected = VecFrame(frame.clone());
        let verdict = process(&mut expected, &KernelTables::new(&self.kernel.plane));
        let attached = self.kernel.interfaces.iter().find(|(_, state)| state.is_ok()).map(|(name, _)| name.as_str());
        let ifindex = attached.and_then(|name| nix::net::if_::if_nametoindex(name).ok()).unwrap_or(0);
        let ran = self.kernel.plane.run(&frame, ifindex).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let (answer, out) = ran;
        let limited = explanation.route.as_ref().and_then(|route| self.desired.service(&route.service));
        let limited =
            limited.is_some_and(|service| service.guard.rate.is_some() || service.guard.source_rate.is_some());
        let same = match verdict {
            Verdict::Forward { .. } => matches!(answer, XDP_TX | XDP_REDIRECT) && out == expected.0,
            Verdict::Answer => answer == XDP_TX,
            Verdict::Pass => answer == XDP_PASS,
            Verdict::Drop(_) => answer == XDP_DROP,
        };
        let said = ANSWERS.get(answer as usize).copied().unwrap_or("an unknown answer").to_owned();
        // The model has tokens always.
        let agrees = same || (limited && answer == XDP_DROP);
        if agrees && !same {
            explanation
                .steps
                .push("the loaded program has no token for it now: a rate of new flows is exceeded".to_owned());
        } else if agrees {
            explanation.steps.push(format!("the loaded program decides the same, to the byte ({said})"));
        } else {
            let Flow { protocol, source, destination } = explanation.flow;
            let why = format!("{protocol} {source} to {destination}: the program says {said}, the model {verdict:?}");
            explanation.steps.push(format!("THE LOADED PROGRAM DISAGREES: {said}"));
            self.watch.watchtower.disagreed = Some((std::time::Instant::now(), why));
        }
        Ok(Some(ProgramSaid { agrees, answer: said }))
    }

    pub(crate) fn numbered(&self, number: u16) -> Option<&Service> {
        self.desired.service(self.kernel.numbered(number)?)
    }
}

/// Under another config, with every backend of it up.
fn with_config(flow: &Flow, packet: &Packet, (file, config): (&str, &Config), explanation: &Explanation) -> Elsewhere {
    let node = &config.node;
    let there = config.services.iter().filter(|service| service.covers(flow.protocol, flow.destination));
    let service = there.max_by_key(|service| service.exactness());
    let when = format!("with {file}");
    let Some(service) = service else {
        return Elsewhere { when, service: None, slot: None, backend: None, same: explanation.route.is_none() };
    };
    let placed = |(place, backend): (usize, &crate::model::Backend)| Placed {
        index: place as u16 + 1,
        weight: backend.weight,
        next_hop: None,
        dead: false,
    };
    let placed: Vec<Placed> = service.backends.iter().enumerate().map(placed).collect();
    let plan = plan_service(service, &placed, &Numbering::default(), node);
    let change = table_of(&service.name, &plan, String::new(), 0);
    elsewhere(when, &change, packet, explanation)
}

/// Who may open flows.
fn access(guard: &Guard) -> String {
    let mut said = Vec::new();
    if !guard.allow.is_empty() {
        said.push(format!("{} prefixes may", guard.allow.len()));
    }
    if !guard.deny.is_empty() {
        said.push(format!("{} prefixes may not", guard.deny.len()));
    }
    let each = [("a second in all", guard.rate), ("a second and source", guard.source_rate)];
    said.extend(each.into_iter().filter_map(|(of, rate)| Some(format!("at most {} new flows {of}", rate?.per_second))));
    match &said[..] {
        [] => "anybody may open flows".to_owned(),
        said => format!("who may open flows: {}", said.join(", ")),
    }
}

fn elsewhere(when: String, change: &Change, packet: &Packet, explanation: &Explanation) -> Elsewhere {
    let slot = change.slot(&Hashed { is_ipv6: packet.is_ipv6(), source: packet.source(), ports: packet.ports() });
    let backend = slot.and_then(|slot| change.owner(slot)).cloned();
    let now = explanation.route.as_ref();
    let same = now.is_some_and(|now| now.service == change.service && Some(&now.owner) == backend.as_ref());
    Elsewhere { when, service: Some(change.service.clone()), slot, backend, same }
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
