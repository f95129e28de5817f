//! What is wrong with the way to a backend: evidence in, findings out.

use std::collections::BTreeMap;

use super::catalogue::Kind;
use super::evidence::{Answer, Closer, Direct, Evidence, Sizes};
use super::heard::ErrorKind;
use super::patient::{Patient, Way};
use crate::control::api::Finding;
use crate::model::{Protocol, ServiceName};
use crate::neighbor::Reachability;

/// Of a backend that can't be sent to; nothing where it can.
pub(super) fn of_reachability(patient: &Patient) -> Option<Finding> {
    let Patient { id, backend, reachability, .. } = patient;
    let address = backend.ip();
    let (kind, help) = match reachability {
        Reachability::Resolved(_) => return None,
        Reachability::Pending => (Kind::NotProbed, "ask again in a moment".to_owned()),
        Reachability::NoNeighbor { via, interface } => {
            let help = format!("is {via} up, and on the network (and VLAN) of {interface}? `ip neigh show {via}`");
            (Kind::NoNeighbour, help)
        }
        Reachability::InterfaceDown { interface } => (Kind::NoRoute, format!("`ip link set {interface} up`")),
        Reachability::Local => (Kind::NoRoute, "give the address of another host".to_owned()),
        _ => (Kind::NoRoute, format!("`ip route get {address}` shows the way that the kernel takes")),
    };
    Some(Finding::new(kind, id, format!("{address}: {reachability}"), help))
}

/// Services whose encapsulated packets don't fit the interface, whatever is on the way.
pub(super) fn of_links(patients: &[Patient]) -> Vec<Finding> {
    let mut worst: BTreeMap<&ServiceName, (u32, String)> = BTreeMap::new();
    for patient in patients {
        let (Reachability::Resolved(hop), Some(entry)) = (&patient.reachability, &patient.entry) else { continue };
        let needed = u32::from(patient.longest) + u32::from(entry.overhead);
        if needed > hop.mtu && worst.get(&patient.id.service).is_none_or(|(most, _)| needed - hop.mtu > *most) {
            let message = format!(
                "packets of {} bytes leave with {} more, and {} takes {}",
                patient.longest, entry.overhead, hop.interface, hop.mtu
            );
            worst.insert(&patient.id.service, (needed - hop.mtu, message));
        }
    }
    let help = "raise the MTU of the link, or set `mss_clamp`";
    worst.into_iter().map(|(service, (_, message))| Finding::new(Kind::EgressMtu, service, message, help)).collect()
}

pub(super) fn of_evidence(patient: &Patient, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(evidence.closer.as_ref().and_then(|closer| cause(patient, evidence.opening, closer)));
    if evidence.opening == Answer::Closed {
        let Patient { id, service, protocol, backend, .. } = patient;
        let message = if patient.is_nat() {
            format!("{protocol} port {} is closed on {}", backend.port(), backend.ip())
        } else {
            format!("{protocol} port {} is closed at {} on {}", service.port(), service.ip(), backend.ip())
        };
        let help = "is the server running, and does it listen on the service's address and port? `ss -ln` there";
        findings.push(Finding::new(Kind::PortClosed, id, message, help));
    }
    findings.extend(evidence.sizes.as_ref().and_then(|sizes| of_sizes(patient, sizes)));
    findings
}

/// Why nothing arrived, as narrow as what was heard allows.
fn cause(patient: &Patient, opening: Answer, closer: &Closer) -> Option<Finding> {
    let Patient { id, service, backend, way, .. } = patient;
    let (vip, address) = (service.ip(), backend.ip());
    let arrived = |answer: Option<Answer>| answer.is_some_and(Answer::arrived);
    let all = [Some(opening), closer.by_socket, closer.known_source, closer.other_port];
    let said = |wanted: &dyn Fn(Answer) -> bool| all.iter().flatten().any(|answer| wanted(*answer));
    let find = |kind, message: String, help: &str| Some(Finding::new(kind, id, message, help));
    if arrived(closer.by_socket) {
        return match way {
            // Generic XDP hands test frames over to the driver in another way than packets that came in.
            Way::Program { native: true, .. } => find(
                Kind::Transmission,
                format!("what the program sends to {address} does not arrive, the same packet from a socket does"),
                "give the interface as many transmit queues for XDP as there are processors, or set `mode = \"generic\"`; \
                 the other end of a veth needs an XDP program, or GRO",
            ),
            _ => None,
        };
    }
    if arrived(closer.known_source) {
        return find(
            Kind::OuterSource,
            format!("{address} gets encapsulated packets from this host's address, not those from `node.encap_source`"),
            "on the backend `sysctl net.ipv4.conf.all.rp_filter=2` (0 for the interface too); or route the prefix of \
             `encap_source` there and let routers pass it",
        );
    }
    let refuses_outer =
        |answer| matches!(answer, Answer::Error { outer: true, kind: ErrorKind::NoProtocol | ErrorKind::NoPort, .. });
    if patient.is_encapsulated() && said(&refuses_outer) {
        return find(
            Kind::NoDecapsulation,
            format!("{address} says that nothing there takes {}", encapsulation(patient)),
            "set up the tunnel device on the backend and bring it up (docs/config.md, `forward`)",
        );
    }
    let passes_on = |answer| match answer {
        Answer::Error { from, kind, outer: false } => match kind {
            ErrorKind::TimeExceeded | ErrorKind::Unreachable => true,
            ErrorKind::Redirect => from == address,
            _ => false,
        },
        _ => false,
    };
    if !patient.is_nat() && said(&passes_on) {
        return find(
            Kind::NotOnBackend,
            format!("{address} passes packets for {vip} on instead of taking them"),
            &put_it_there(patient),
        );
    }
    if patient.protocol == Protocol::Tcp && arrived(closer.other_port) {
        return find(
            Kind::PortFiltered,
            format!("{address} answers from {vip}, but not on port {}", service.port()),
            "look for a firewall's rule about this port, and for a server whose queue is full (`ss -ltn` there)",
        );
    }
    if arrived(closer.other_port) {
        return None;
    }
    let knows_own = arrived(closer.own_address);
    if let (Direct::Failed(error), false) = (&closer.direct, knows_own) {
        // Of datagrams that nobody answers and a host that takes no connections nothing is known.
        let kind = if patient.protocol == Protocol::Tcp { Kind::Unreachable } else { Kind::NotProbed };
        let message = format!("no packet to {vip} is answered, and neither is a connection to {address}: {error}");
        return find(kind, message, "is the host up? look for a firewall between it and this host");
    }
    if closer.own_address.is_some() && !knows_own {
        return find(
            Kind::NoDecapsulation,
            format!("{address} can be reached, but answers nothing that comes as {}", encapsulation(patient)),
            "set up the tunnel device on the backend and bring it up, with `rp_filter` 0 or 2 on it and on `all`; let \
             firewalls pass the encapsulation",
        );
    }
    let unpacked = if knows_own { ", unpacks what is sent to it" } else { "" };
    find(
        Kind::NoReply,
        format!("{address} can be reached{unpacked}, but nothing answers from {vip}"),
        &format!(
            "{}; where it is there, look for a firewall that drops packets to or from it, and for `rp_filter` 1",
            put_it_there(patient)
        ),
    )
}

fn put_it_there(patient: &Patient) -> String {
    if patient.is_nat() {
        return format!("have {} answer by this host", patient.backend.ip());
    }
    format!("`ip address add {} dev lo` on the backend", patient.service.ip())
}

fn encapsulation(patient: &Patient) -> String {
    let inner = if patient.service.is_ipv4() { "IPv4" } else { "IPv6" };
    let outer = if patient.backend.is_ipv4() { "IPv4" } else { "IPv6" };
    match patient.entry.map_or(0, |entry| u16::from_be(entry.port)) {
        0 => format!("{inner} in {outer}"),
        port => format!("{inner} in GUE on UDP port {port}"),
    }
}

fn of_sizes(patient: &Patient, sizes: &Sizes) -> Option<Finding> {
    let Patient { id, backend, .. } = patient;
    let Sizes { room, room_before, tried, largest } = *sizes;
    if largest < tried {
        let outer = match patient.entry.map_or(0, |entry| entry.overhead) {
            0 => String::new(),
            overhead => format!(" ({} with outer headers)", largest + overhead),
        };
        let message = format!("packets above {largest} bytes{outer} do not arrive at {id}");
        let help = format!(
            "find the link with the small MTU (`tracepath {}`), and let ICMP \"fragmentation needed\" through; \
             until then `mss_clamp = {}`",
            backend.ip(),
            largest.saturating_sub(if patient.service.is_ipv4() { 40 } else { 60 }),
        );
        return Some(Finding::new(Kind::MtuHole, id, message, help));
    }
    let of_link = match &patient.reachability {
        Reachability::Resolved(hop) => hop.mtu.min(u32::from(u16::MAX)) as u16,
        _ => return None,
    };
    let overhead = patient.entry.map_or(0, |entry| entry.overhead);
    let fits_link = of_link.saturating_sub(overhead);
    if room.min(room_before) < fits_link.min(patient.longest) {
        let message = format!("a router says that {id} gets packets of {room} bytes at most");
        let help = "raise the MTU of that link, or set `mss_clamp`";
        return Some(Finding::new(Kind::PathMtu, id, message, help));
    }
    None
}

#[cfg(test)]
mod tests {
    use balancer_common::layout::{BackendEntry, ServiceEntry, forward};

    use super::*;
    use crate::control::api::Through;
    use crate::neighbor::NextHop;

    fn patient(forward: u8) -> Patient {
        let overhead = balancer_common::encap::overhead(forward, 0);
        Patient {
            id: "web/b1".parse().unwrap(),
            protocol: Protocol::Tcp,
            service: "192.0.2.10:80".parse().unwrap(),
            backend: "10.0.0.1:80".parse().unwrap(),
            checked: 80,
            reachability: Reachability::Resolved(NextHop::example()),
            rules: ServiceEntry::default(),
            entry: Some(BackendEntry { forward, overhead, mtu: 1500, ..BackendEntry::default() }),
            source: Some([10, 0, 0, 2].into()),
            outer: Some([10, 0, 0, 2].into()),
            way: Way::Program { ports: vec![1024], ifindex: 2, native: true },
            longest: 1500,
        }
    }

    const NOTHING: Closer = Closer {
        by_socket: Some(Answer::Silence),
        known_source: Some(Answer::Silence),
        own_address: Some(Answer::Silence),
        other_port: Some(Answer::Silence),
        direct: Direct::Answered,
    };

    /// Identifiers of what is found where the opening packet is not answered.
    fn found(patient: &Patient, opening: Answer, closer: Closer) -> Vec<String> {
        let evidence = Evidence { through: Through::Program, opening, closer: Some(closer), sizes: None };
        of_evidence(patient, &evidence).into_iter().map(|finding| finding.id).collect()
    }

    fn error(kind: ErrorKind, outer: bool) -> Option<Answer> {
        Some(Answer::Error { from: [10, 0, 0, 1].into(), kind, outer })
    }

    #[test]
    fn silence_is_narrowed_down_as_far_as_evidence_goes() {
        let ipip = patient(forward::IPIP4);
        let silent = |closer| found(&ipip, Answer::Silence, closer);
        let (open, closed) = (Some(Answer::Open), Some(Answer::Closed));
        assert_eq!(silent(NOTHING), ["DOC016"]);
        assert_eq!(silent(Closer { known_source: error(ErrorKind::NoProtocol, true), ..NOTHING }), ["DOC016"]);
        assert_eq!(silent(Closer { known_source: error(ErrorKind::NoPort, true), ..NOTHING }), ["DOC016"]);
        assert_eq!(silent(Closer { own_address: closed, ..NOTHING }), ["DOC018"]);
        assert_eq!(silent(Closer { own_address: closed, other_port: closed, ..NOTHING }), ["DOC019"]);
        let passed_on = Closer { own_address: closed, other_port: error(ErrorKind::TimeExceeded, false), ..NOTHING };
        assert_eq!(silent(passed_on), ["DOC017"]);
        let redirected = Closer { own_address: closed, other_port: error(ErrorKind::Redirect, false), ..NOTHING };
        assert_eq!(silent(redirected), ["DOC017"]);
        assert_eq!(silent(Closer { known_source: open, ..NOTHING }), ["DOC020"]);
        assert_eq!(silent(Closer { by_socket: open, ..NOTHING }), ["DOC021"]);
        let down = Direct::Failed("no answer".to_owned());
        assert_eq!(silent(Closer { direct: down, ..NOTHING }), ["DOC014"]);
    }

    #[test]
    fn without_encapsulation_none_is_missing() {
        let l2 = patient(forward::L2);
        let closer = Closer { known_source: None, own_address: None, ..NOTHING };
        assert_eq!(found(&l2, Answer::Silence, closer), ["DOC018"]);
    }

    #[test]
    fn generic_xdp_is_not_blamed_for_what_a_test_frame_does() {
        let way = Way::Program { ports: vec![1024], ifindex: 2, native: false };
        let generic = Patient { way, ..patient(forward::L2) };
        let closer = Closer { by_socket: Some(Answer::Open), ..NOTHING };
        assert_eq!(found(&generic, Answer::Silence, closer), [""; 0]);
    }

    #[test]
    fn of_datagrams_that_nobody_answers_nothing_is_known() {
        let dns = Patient { protocol: Protocol::Udp, ..patient(forward::L2) };
        let down = Direct::Failed("no answer".to_owned());
        assert_eq!(found(&dns, Answer::Silence, Closer { direct: down, ..NOTHING }), ["DOC024"]);
        let there = Closer { other_port: Some(Answer::Closed), ..NOTHING };
        assert_eq!(found(&dns, Answer::Silence, there), [""; 0]);
    }

    #[test]
    fn sizes_tell_a_hole_from_a_path_that_is_known() {
        let ipip = patient(forward::IPIP4);
        let judged = |room, room_before, tried, largest| {
            let sizes = Some(Sizes { room, room_before, tried, largest });
            let evidence = Evidence { through: Through::Program, opening: Answer::Open, closer: None, sizes };
            of_evidence(&ipip, &evidence).into_iter().map(|f| (f.id, f.message)).collect::<Vec<_>>()
        };
        assert_eq!(judged(1480, 1480, 1480, 1480), []);
        let [(id, message)] = &judged(1480, 1480, 1480, 1280)[..] else { panic!("no finding") };
        assert_eq!(id, "DOC022");
        assert_eq!(message, "packets above 1280 bytes (1300 with outer headers) do not arrive at web/b1");
        assert_eq!(judged(1280, 1480, 1280, 1280)[0].0, "DOC023");
        assert_eq!(judged(1280, 1280, 1280, 1280)[0].0, "DOC023");
        // The link itself takes no more: that is said of the service.
        assert_eq!(of_links(std::slice::from_ref(&ipip))[0].id, "DOC011");
        assert!(of_links(&[patient(forward::L2)]).is_empty());
    }

    #[test]
    fn obstacles_before_the_link_are_named() {
        let at = |reachability| of_reachability(&Patient { reachability, ..patient(forward::L2) }).map(|f| f.id);
        let (via, interface) = ([10, 0, 0, 1].into(), "eth0".to_owned());
        assert_eq!(at(Reachability::NoNeighbor { via, interface }).as_deref(), Some("DOC013"));
        assert_eq!(at(Reachability::NoRoute).as_deref(), Some("DOC012"));
        assert_eq!(at(Reachability::Resolved(NextHop::example())), None);
    }
}
