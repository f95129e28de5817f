//! Virtual servers → services → the text of a config.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::health::{Check, quoted};
use super::share::{Programmed, programmed};
use super::virtual_server::{RealServer, VirtualServer};
use super::{BackendShares, Options, Origin, Remarks, ServiceShares};
use crate::model::{BackendName, ForwardMode, Protocol, ServiceName};
use crate::plan::share;
use crate::spec::{self, Severity};

/// The largest weight that a config may have.
const LARGEST_WEIGHT: u32 = 1_000_000;

/// A virtual server as this balancer can have it.
pub(super) struct Service {
    name: ServiceName,
    server: VirtualServer,
    names: Vec<BackendName>,
    /// By server.
    weights: Vec<u32>,
    forward: super::virtual_server::Forward,
    check: Option<Check>,
}

/// Takes what can be taken; remarks say what can't.
pub(super) fn services(servers: Vec<VirtualServer>, remarks: &mut Remarks) -> Vec<Service> {
    let mut names = BTreeSet::new();
    servers.into_iter().filter_map(|server| service(server, &mut names, remarks)).collect()
}

fn service(server: VirtualServer, taken: &mut BTreeSet<String>, remarks: &mut Remarks) -> Option<Service> {
    let not_taken = |why: &str, remarks: &mut Remarks| {
        remarks.not_taken(&server.at, server.text.clone(), why);
        for real in &server.servers {
            remarks.not_taken(&real.at, real.text.clone(), "its virtual server was not taken");
        }
    };
    let Some(forward) = server.servers.first().map(|first| first.forward) else {
        not_taken("no real server of it was taken", remarks);
        return None;
    };
    if server.servers.iter().any(|real| real.forward != forward) {
        not_taken("its real servers are reached in different ways; a service has one", remarks);
        return None;
    }
    if forward.mode == ForwardMode::Nat && (server.port == 0 || server.protocol == Protocol::Sctp) {
        not_taken("`nat` needs one port, and tcp or udp", remarks);
        return None;
    }
    if let Some(why) = server.scheduler.remark() {
        remarks.differs(&server.at, server.scheduler.to_string(), why);
    }
    let wanted = format!("{}-{}-{}", server.protocol, server.address, named_port(server.port));
    let name = unique(&wanted, taken).parse().ok()?;
    let largest = server.servers.iter().map(|real| real.weight).max().unwrap_or(0);
    let mut backends = BTreeSet::new();
    let mut names = Vec::with_capacity(server.servers.len());
    let mut weights = Vec::with_capacity(server.servers.len());
    for real in &server.servers {
        let wanted = match named_twice(&server, real) {
            true => format!("{}-{}", real.address, named_port(real.port)),
            false => real.address.to_string(),
        };
        names.push(unique(&wanted, &mut backends).parse().ok()?);
        weights.push(scaled(server.scheduler.weight(real.weight), largest));
        judge(&server, real, forward.mode, largest, remarks);
    }
    let check = one_check(&server, remarks);
    Some(Service { name, names, weights, forward, check, server })
}

/// What of a real server has another effect here.
fn judge(server: &VirtualServer, real: &RealServer, mode: ForwardMode, largest: u32, remarks: &mut Remarks) {
    if mode != ForwardMode::Nat && real.port != 0 && real.port != server.port {
        let why = "only `nat` changes ports, here as in IPVS: packets arrive at the service's port";
        remarks.differs(&real.at, real.text.clone(), why);
    }
    if largest > LARGEST_WEIGHT {
        let why = format!("weights above {LARGEST_WEIGHT} are cut in proportion");
        remarks.differs(&real.at, format!("weight {}", real.weight), why);
    }
}

/// One server may serve on several ports.
fn named_twice(server: &VirtualServer, real: &RealServer) -> bool {
    server.servers.iter().filter(|other| other.address == real.address).count() > 1
}

fn scaled(weight: u32, largest: u32) -> u32 {
    if largest <= LARGEST_WEIGHT || weight == 0 {
        return weight;
    }
    let scaled = u64::from(weight) * u64::from(LARGEST_WEIGHT) / u64::from(largest);
    scaled.clamp(1, LARGEST_WEIGHT.into()) as u32
}

/// The check that the first server has; a service has one for all.
fn one_check(server: &VirtualServer, remarks: &mut Remarks) -> Option<Check> {
    let first = server.servers.iter().find_map(|real| real.check.clone())?;
    for real in server.servers.iter().filter(|real| real.check.as_ref() != Some(&first)) {
        let why = "a service has one check for all backends: that of its first";
        remarks.differs(&real.at, real.text.clone(), why);
    }
    Some(first)
}

fn named_port(port: u16) -> String {
    if port == 0 { "all".to_owned() } else { port.to_string() }
}

/// A name of letters that names may have, that nobody has yet.
fn unique(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let name = wanted.replace(':', "-").trim_start_matches('-').to_owned();
    let free = (1..).map(|i| if i == 1 { name.clone() } else { format!("{name}-{i}") });
    let name = free.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
}

impl Service {
    fn toml(&self) -> String {
        let Self { name, server, .. } = self;
        let port = if server.port == 0 { "\"all\"".to_owned() } else { server.port.to_string() };
        let mut out = format!(
            "\n# {}\n[[service]]\nname = \"{name}\"\nprotocol = \"{}\"\naddress = \"{}\"\nport = {port}\nforward = \"{}\"\n",
            server.at,
            server.protocol,
            server.address,
            mode(self.forward.mode),
        );
        if server.by_client {
            out += "affinity = \"client\"\n";
        }
        if let Some(port) = self.forward.port {
            let _ = writeln!(out, "gue = {{ port = {port} }}");
        }
        match &self.check {
            Some(check) => {
                let _ = write!(out, "\n{}", check.toml());
            }
            // Without a table TCP is checked by connecting, and on several ports there is none to connect to.
            None if server.port == 0 => out += "\n[service.health]\nkind = \"none\"\n",
            None => {}
        }
        for ((real, name), weight) in server.servers.iter().zip(&self.names).zip(&self.weights) {
            let _ = write!(out, "\n[[service.backend]]\nname = \"{name}\"\naddress = \"{}\"\n", real.address);
            if self.forward.mode == ForwardMode::Nat && real.port != 0 && real.port != server.port {
                let _ = writeln!(out, "port = {}", real.port);
            }
            let _ = writeln!(out, "weight = {weight}");
        }
        out
    }

    pub(super) fn shares(&self) -> ServiceShares {
        let server = &self.server;
        let old: Vec<u32> = server.servers.iter().map(|real| real.weight).collect();
        let (shares, lost, unknown) = match programmed(server.scheduler, &old) {
            Programmed::Exact { shares, lost } => (shares.into_iter().map(Some).collect(), lost, None),
            Programmed::Unknown(why) => (vec![None; old.len()], 0.0, Some(why)),
        };
        let all = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        let backends = self.names.iter().zip(&old).zip(shares).zip(&self.weights);
        ServiceShares {
            at: server.at.clone(),
            service: self.name.clone(),
            scheduler: server.scheduler.to_string(),
            unknown,
            lost,
            backends: backends
                .map(|(((name, old_weight), old_share), weight)| BackendShares {
                    backend: name.clone(),
                    old_weight: *old_weight,
                    old_share,
                    weight: *weight,
                    share: share((*weight).into(), all),
                })
                .collect(),
        }
    }
}

fn mode(mode: ForwardMode) -> &'static str {
    match mode {
        ForwardMode::L2 => "l2",
        ForwardMode::Ipip => "ipip",
        ForwardMode::Gue => "gue",
        ForwardMode::Nat => "nat",
    }
}

pub(super) fn config(
    origin: Origin,
    file: &str,
    services: &[Service],
    interfaces: &[String],
    options: &Options,
) -> String {
    let from = match origin {
        Origin::Ipvsadm => "ipvsadm",
        Origin::Keepalived => "keepalived",
    };
    let mut out = format!(
        "# Made by `balancer import {from}` of {file}; what it could not take stands in its report.\n\n\
         [node]\n# The same on all balancers that share services; a secret: give this file mode 0640.\nseed = \"{:#018x}\"\n",
        options.seed,
    );
    let given = if options.interfaces.is_empty() { interfaces } else { &options.interfaces };
    let (given, note) = match given {
        [] => (
            &["eth0".to_owned()][..],
            "# No rule says which: name the interfaces that packets for services come in on.\n",
        ),
        given => (given, ""),
    };
    for interface in given {
        let _ = write!(out, "\n{note}[[interface]]\nname = {}\n", quoted(interface));
    }
    out.extend(services.iter().map(Service::toml));
    out
}

/// The errors that `balancer check` would find.
pub(super) fn errors(config: &str) -> Vec<String> {
    match spec::parse("the new config", config) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let errors = problems.findings.iter().filter(|finding| finding.severity == Severity::Error);
            errors.map(|finding| format!("line {}: {} [{}]", finding.line, finding.message, finding.id)).collect()
        }
    }
}
