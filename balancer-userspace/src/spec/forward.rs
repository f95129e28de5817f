//! How packets reach backends: `forward`, `[service.gue]`, and what a mode can't do.

use ipnet::IpNet;

use super::backend::ReadBackend;
use super::catalogue::Kind;
use super::diagnostic::Problems;
use super::reader::{Placed, Section};
use super::{ports, prefix};
use crate::model::{ForwardMode, Gue, Ports, Protocol};

pub(super) const GUE_KEYS: &[&str] = &["variant", "port"];

const MODES: &[(&str, ForwardMode)] =
    &[("l2", ForwardMode::L2), ("ipip", ForwardMode::Ipip), ("gue", ForwardMode::Gue), ("nat", ForwardMode::Nat)];

pub(super) fn forward(service: &Section<'_>) -> Option<Placed<ForwardMode>> {
    service.required("forward", "\"ipip\"", |key| service.choice(key, MODES, &[]))
}

pub(super) fn gue(service: &Section<'_>, forward: Option<&Placed<ForwardMode>>) -> Gue {
    let Some(section) = service.section("gue", "service.gue", GUE_KEYS) else { return Gue::DEFAULT };
    if forward.is_some_and(|forward| forward.value != ForwardMode::Gue) {
        service.problems.add(
            Kind::Mismatch,
            section.span.clone(),
            "[service.gue] is for services that forward by GUE",
            "remove it, or set `forward = \"gue\"`",
        );
    }
    let variant = section.number("variant", 0..=1).and_then(|variant| u8::try_from(variant.value).ok());
    Gue {
        variant: variant.unwrap_or(Gue::DEFAULT.variant),
        port: section.port("port").map_or(Gue::DEFAULT.port, |port| port.value),
    }
}

/// What of a service decides whether a mode can forward for it.
pub(super) struct Wanted<'r> {
    pub(super) forward: Option<&'r Placed<ForwardMode>>,
    pub(super) protocol: Option<Protocol>,
    pub(super) address: Option<&'r Placed<IpNet>>,
    pub(super) ports: Option<&'r Placed<Ports>>,
    pub(super) backends: &'r [ReadBackend],
}

pub(super) fn check(wanted: &Wanted<'_>, problems: &Problems<'_>) {
    if let (Some(address), Some(ports)) = (wanted.address, wanted.ports)
        && !prefix::is_one(&address.value)
        && matches!(ports.value, Ports::Range(..))
    {
        problems.add(
            Kind::Mismatch,
            ports.span.clone(),
            "a service on a prefix is on one port or on all, not on a range",
            "write one port or \"all\", or give the service one address",
        );
    }
    match wanted.forward {
        Some(forward) if forward.value == ForwardMode::Nat => nat(wanted, forward, problems),
        Some(_) => backend_ports(wanted, problems),
        None => {}
    }
}

fn nat(wanted: &Wanted<'_>, forward: &Placed<ForwardMode>, problems: &Problems<'_>) {
    let refuse = |message: String, help: &str| problems.add(Kind::Mismatch, forward.span.clone(), message, help);
    if wanted.protocol == Some(Protocol::Sctp) {
        refuse(
            "`nat` can't forward sctp: its checksum, a CRC32c over ports and data, would have to be computed anew for \
             every packet"
                .to_owned(),
            "use \"l2\", \"ipip\" or \"gue\", which leave the packet as it is",
        );
    }
    if let Some(ports) = wanted.ports.filter(|ports| !matches!(ports.value, Ports::One(_))) {
        refuse(
            format!("`nat` sends to one port of a backend, but the service is on {}", ports::words(ports.value)),
            "write one port, or use \"l2\", \"ipip\" or \"gue\", which keep the port that the client asked for",
        );
    }
    let Some(address) = wanted.address else { return };
    if !prefix::is_one(&address.value) {
        refuse(
            format!(
                "`nat` can't forward for the prefix {}: replies to its addresses can't be told apart",
                address.value
            ),
            "give the service one address, or use \"l2\", \"ipip\" or \"gue\"",
        );
    }
    let service = address.value.addr();
    for ReadBackend { address, .. } in wanted.backends.iter().filter(|b| b.address.value.is_ipv4() != service.is_ipv4())
    {
        problems.add(
            Kind::Mismatch,
            address.span.clone(),
            format!("`nat` can't send from {service} to {}, an address of the other family", address.value),
            "give the backend an address of the service's family, or use `forward = \"ipip\"`",
        );
    }
}

/// All modes but `nat` leave the port as it is.
fn backend_ports(wanted: &Wanted<'_>, problems: &Problems<'_>) {
    let Some(service) = wanted.ports.map(|ports| ports.value) else { return };
    for port in wanted.backends.iter().filter_map(|backend| backend.port.as_ref()) {
        let message = match service {
            Ports::One(one) if one == port.value => continue,
            Ports::One(one) => {
                format!("`l2`, `ipip` and `gue` deliver to the service's port {one}, not to {}", port.value)
            }
            Ports::Range(..) | Ports::All => {
                "backends of a service on several ports receive on the port that the client asked for".to_owned()
            }
        };
        let help = match service {
            Ports::One(_) => "remove `port`, or use `forward = \"nat\"`; a check's port is `service.health.port`",
            Ports::Range(..) | Ports::All => "remove `port`; a check's port is `service.health.port`",
        };
        problems.add(Kind::Mismatch, port.span.clone(), message, help);
    }
}
