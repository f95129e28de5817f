//! What the doctor can find: identifiers, which are stable, how severe each is, and what it means.

use crate::spec::Severity::{Error, Note, Warning};
use crate::spec::{Entry, entry};

/// Kinds of findings, in the order of their identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    NotAttached,
    ForeignProgram,
    GenericMode,
    InterfaceDown,
    Coalescing,
    NoJit,
    OpenFiles,
    MapNearlyFull,
    ReversePath,
    Clock,
    EgressMtu,
    NoRoute,
    NoNeighbour,
    Unreachable,
    PortClosed,
    NoDecapsulation,
    NotOnBackend,
    NoReply,
    PortFiltered,
    OuterSource,
    Transmission,
    MtuHole,
    PathMtu,
    NotProbed,
}

pub const CATALOGUE: [Entry<Kind>; 24] = [
    entry(
        Kind::NotAttached,
        "DOC001",
        Error,
        "the program is not on an interface",
        "Packets that come in there go to the host and not to backends. The program is attached when the interface comes back, and \
         by a restart of the controller, which forwarding elsewhere does not notice.",
    ),
    entry(
        Kind::ForeignProgram,
        "DOC002",
        Error,
        "another XDP program is on an interface",
        "An interface takes one XDP program. Whoever attached the other one has to take it off, or to attach it elsewhere.",
    ),
    entry(
        Kind::GenericMode,
        "DOC003",
        Note,
        "generic XDP where native was not ruled out",
        "The driver has no native XDP, or refuses it with this MTU. Generic XDP does the same, behind the allocation of the \
         packet, at a fraction of the rate.",
    ),
    entry(
        Kind::InterfaceDown,
        "DOC004",
        Error,
        "an interface is down",
        "Nothing comes in or leaves there: it was not brought up, or there is no carrier.",
    ),
    entry(
        Kind::Coalescing,
        "DOC005",
        Warning,
        "the card joins packets that it receives",
        "LRO and hardware GRO make of several packets one that is larger than the MTU. It can't be forwarded as it is, and many \
         drivers drop it before XDP.",
    ),
    entry(
        Kind::NoJit,
        "DOC006",
        Warning,
        "the kernel's BPF JIT is off",
        "The program is interpreted, at a fraction of the rate.",
    ),
    entry(
        Kind::OpenFiles,
        "DOC007",
        Warning,
        "the limit of open files is too low for the checks",
        "Each check that is on its way needs a file. Where none is left, checks are not made, and a backend that fails is not \
         noticed.",
    ),
    entry(
        Kind::MapNearlyFull,
        "DOC008",
        Warning,
        "a map of the kernel is nearly full",
        "Where it is full, a change that needs more is refused, or new flows of open slots are no longer remembered.",
    ),
    entry(
        Kind::ReversePath,
        "DOC009",
        Note,
        "replies to health checks may be dropped by the host",
        "With `rp_filter` at 1 the host drops what comes in by another interface than it would answer by. Backends whose \
         answers come back another way look down although they are not. What the program forwards is not concerned.",
    ),
    entry(
        Kind::Clock,
        "DOC010",
        Note,
        "the clock is not synchronised",
        "Times in the log, the history and captures can't be compared with those of other hosts.",
    ),
    entry(
        Kind::EgressMtu,
        "DOC011",
        Warning,
        "encapsulated packets don't fit the link to the backends",
        "Clients send packets of up to 1,500 bytes; with outer headers they are longer than what the interface takes. The \
         balancer answers them with ICMP \"too big\", but not every sender gets that.",
    ),
    entry(
        Kind::NoRoute,
        "DOC012",
        Error,
        "there is no way to a backend",
        "The host's routes and links don't lead to the address in a way that the program can take.",
    ),
    entry(
        Kind::NoNeighbour,
        "DOC013",
        Error,
        "no neighbour",
        "Nobody on the link answers (ARP, neighbour discovery) for the next hop on the way to the backend: the host is off, has \
         another address, or is on another link or VLAN.",
    ),
    entry(
        Kind::Unreachable,
        "DOC014",
        Error,
        "a backend does not answer at all",
        "Neither packets through the data plane nor a plain connection to the backend's own address are answered.",
    ),
    entry(
        Kind::PortClosed,
        "DOC015",
        Error,
        "nothing listens on the service's port",
        "The backend has the service's address and answers that the port is closed. The server does not run, or listens on \
         another port or only on another address. A health check on the backend's own address does not see that.",
    ),
    entry(
        Kind::NoDecapsulation,
        "DOC016",
        Error,
        "the backend does not take outer headers off",
        "The backend can be reached, but what is sent to it encapsulated is refused or never comes out. It needs a device that \
         is up and takes this encapsulation (`ipip`, `sit`, `ip6tnl` or `fou`), and `rp_filter` 0 or 2 on it: clients are not \
         reached by that device, so that strict filtering drops everything.",
    ),
    entry(
        Kind::NotOnBackend,
        "DOC017",
        Error,
        "the service's address is not on the backend",
        "The backend forwards packets for the service's address instead of taking them. It needs the address, on `lo` for \
         example, without answering for it on the link (`arp_ignore = 1`, `arp_announce = 2`).",
    ),
    entry(
        Kind::NoReply,
        "DOC018",
        Error,
        "the backend does not answer from the service's address",
        "The backend can be reached, but packets for the service's address stay without any answer. Either the address is not \
         on the backend, or packets to or from it are filtered: by a firewall, or by `rp_filter` 1 on the device that they \
         come out of, which can't be seen from here.",
    ),
    entry(
        Kind::PortFiltered,
        "DOC019",
        Error,
        "only the service's port is silent",
        "The backend answers from the service's address on another port: what is lost is lost for this port only. A firewall \
         drops it, or the server accepts nothing more.",
    ),
    entry(
        Kind::OuterSource,
        "DOC020",
        Error,
        "encapsulated packets are lost for their outer source",
        "The same packet arrives with an address of this host as its outer source, and does not with one of \
         `node.encap_source_v4` or `encap_source_v6`. The backend (`rp_filter` 1 on the interface) or a router on the way \
         (unicast reverse path forwarding, RFC 3704) drops sources that it has no route to.",
    ),
    entry(
        Kind::Transmission,
        "DOC021",
        Error,
        "what the program sends does not leave",
        "The same packet arrives when it is sent by a socket, and does not when the program sends it. The driver drops what XDP \
         transmits: it has no queues for it on this interface, or the other end (a veth) takes none.",
    ),
    entry(
        Kind::MtuHole,
        "DOC022",
        Error,
        "large packets disappear",
        "Small packets arrive, larger ones don't, and nobody says why: connections open and then hang. A link on the way takes \
         less than the interfaces on both ends, and its router's ICMP errors are lost. Correct the link's MTU, let ICMP \
         \"fragmentation needed\" and \"packet too big\" through, or set `mss_clamp`.",
    ),
    entry(
        Kind::PathMtu,
        "DOC023",
        Note,
        "the path to a backend takes less than the link",
        "A router said so, and clients are told. Those who don't hear it hang; `mss_clamp` is the safe way.",
    ),
    entry(
        Kind::NotProbed,
        "DOC024",
        Note,
        "a backend was not probed",
        "Nothing is known about the way of packets to this backend.",
    ),
];

impl Kind {
    pub fn entry(self) -> &'static Entry<Kind> {
        &CATALOGUE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_identifiers_are_in_one_order() {
        for (at, entry) in CATALOGUE.iter().enumerate() {
            assert_eq!((entry.kind as usize, entry.id), (at, format!("DOC{:03}", at + 1).as_str()));
        }
    }

    #[test]
    fn docs_list_every_finding() {
        let docs = include_str!("../../../docs/doctor.md");
        for Entry { id, severity, title, .. } in &CATALOGUE {
            assert!(docs.contains(&format!("| `{id}` | {} | {title} |", severity.as_str())), "{id}");
        }
    }
}
