//! Every finding: its identifier, which is stable, how severe it is, and what it means.

use serde::{Deserialize, Serialize};

use Severity::{Error, Note, Warning};

/// Kinds of findings, in the order of their identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unreadable,
    Syntax,
    UnknownKey,
    MissingKey,
    Value,
    Duplicate,
    Address,
    Limit,
    Mismatch,
    AmbiguousReply,
    Unavailable,
    Overload,
    OverloadAfterLoss,
    OverloadAfterDomain,
    NearLimit,
    UnexplainedWeights,
    UnusedCapacity,
    Resolution,
    LargeShare,
    FewBackends,
    AllZero,
    SameServer,
    OwnAddress,
    Overlap,
    Mtu,
    HealthCheck,
    Unequal,
    IdleSilence,
    UnknownLoad,
    OneDomain,
    NoServices,
    PublishedSeed,
    DefaultSeed,
    TableSize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For whoever wants to know; never stops anything.
    Note,
    /// Must be accepted, or silenced with a reason, where a change brings it in.
    Warning,
    /// Nothing is applied.
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Note => "note",
            Warning => "warning",
            Error => "error",
        }
    }
}

/// What is known of a kind: of the findings here, or of another catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Entry<K = Kind> {
    pub kind: K,
    pub id: &'static str,
    pub severity: Severity,
    pub title: &'static str,
    pub explanation: &'static str,
}

pub(crate) const fn entry<K: Copy>(
    kind: K,
    id: &'static str,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
) -> Entry<K> {
    Entry { kind, id, severity, title, explanation }
}

pub const CATALOGUE: [Entry; 34] = [
    entry(
        Kind::Unreadable,
        "BAL001",
        Error,
        "the file, or one that it names, can't be read",
        "Nothing is known about a config that can't be read, so nothing is applied. Check the path, and that the controller's \
         user may read it.",
    ),
    entry(
        Kind::Syntax,
        "BAL002",
        Error,
        "TOML syntax",
        "The file is no TOML document. Strings stand in double quotes, tables in [brackets], tables of a list in [[double \
         brackets]].",
    ),
    entry(
        Kind::UnknownKey,
        "BAL003",
        Error,
        "unknown key",
        "A key that is not known is most often a known one with a typing error, whose value would silently not hold.",
    ),
    entry(
        Kind::MissingKey,
        "BAL004",
        Error,
        "missing key",
        "The key has no default that would be right for everybody.",
    ),
    entry(
        Kind::Value,
        "BAL005",
        Error,
        "a value of the wrong type, out of range or unknown",
        "The message says what was read, the help what may stand there.",
    ),
    entry(
        Kind::Duplicate,
        "BAL006",
        Error,
        "a name, address, interface or server id that stands there twice, or ports that two services share",
        "Names tell services and backends apart in commands, metrics and state; packets of one address, port and protocol can \
         belong to one service only.",
    ),
    entry(
        Kind::Address,
        "BAL007",
        Error,
        "an address that packets can't be sent to, or a backend's address that is or lies in a service's",
        "Packets to a backend with the address of a service would come back to the balancer.",
    ),
    entry(
        Kind::Limit,
        "BAL008",
        Error,
        "more than `limits` allows, or more than 32 ranges of ports on one address",
        "The kernel's maps have the sizes that `limits` gave them when the data plane was loaded.",
    ),
    entry(
        Kind::Mismatch,
        "BAL009",
        Error,
        "values that don't go together, such as `port` with `ipip`",
        "One of the two would have no effect, and whoever wrote it expects one.",
    ),
    entry(
        Kind::AmbiguousReply,
        "BAL010",
        Error,
        "a `nat` backend whose replies would be ambiguous",
        "Replies under `nat` are recognised by the address, port and protocol they come from, without a table of connections.",
    ),
    entry(
        Kind::Unavailable,
        "BAL011",
        Error,
        "something this version does not do",
        "The value is known to a later version only.",
    ),
    entry(
        Kind::Overload,
        "BAL012",
        Error,
        "a backend would get more than its capacity",
        "At the declared peak of its services and with the weights of the file, the server at this address would have to take \
         more than its `capacity`. Lower its weight, raise that of others, or add backends. If the numbers are wrong, correct \
         `peak` or `capacity`.",
    ),
    entry(
        Kind::OverloadAfterLoss,
        "BAL013",
        Error,
        "a backend would get more than its capacity after the loss of another one",
        "What a server that fails had is spread over the others by their weights. At the declared peak the server at this \
         address would then have to take more than its `capacity`: one failure would bring the next. Add backends, or spread \
         the weights by capacity.",
    ),
    entry(
        Kind::OverloadAfterDomain,
        "BAL014",
        Error,
        "a backend would get more than its capacity after the loss of a failure domain",
        "All servers with the same `failure_domain` fail together: a rack, a switch, a site. At the declared peak the server \
         at this address would then have to take more than its `capacity`.",
    ),
    entry(
        Kind::NearLimit,
        "BAL015",
        Warning,
        "a backend would be near its capacity",
        "At the declared peak the server at this address would get more than 80 % of its `capacity`, or more than 90 % after \
         the loss of another one. Predictions are no better than the numbers that they are made from; leave room.",
    ),
    entry(
        Kind::UnexplainedWeights,
        "BAL016",
        Warning,
        "weights differ, and nothing explains why",
        "Backends of this service have different weights, but not different capacities that would explain them. Uneven weights \
         that nobody questioned drowned servers for twelve hours: give each backend its `capacity`, or make the weights equal, \
         or silence this finding and say why.",
    ),
    entry(
        Kind::UnusedCapacity,
        "BAL017",
        Warning,
        "capacities differ, but weights are equal",
        "The backend with the least capacity is the first that is overloaded, while others have room. Weights in the \
         proportion of the capacities use all of them.",
    ),
    entry(
        Kind::Resolution,
        "BAL018",
        Warning,
        "a weight is beyond the table's resolution",
        "A share is a whole number of slots. This backend's would be so few of them that rounding changes its share by more \
         than 5 %, or none. Take a larger `table_size`, or weights that differ less.",
    ),
    entry(
        Kind::LargeShare,
        "BAL019",
        Warning,
        "one backend has a large part of a service",
        "Its loss would be felt, and so would a mistake on it. `service.max_share` says how much is too much; it is 0.5 where \
         nothing is said.",
    ),
    entry(
        Kind::FewBackends,
        "BAL020",
        Warning,
        "a service with one backend or none",
        "Nothing takes over where the only backend fails or is drained; without backends every packet is dropped.",
    ),
    entry(
        Kind::AllZero,
        "BAL021",
        Error,
        "all weights of a service are 0",
        "No backend takes new flows: every new connection is dropped. To take a service out, remove it.",
    ),
    entry(
        Kind::SameServer,
        "BAL022",
        Warning,
        "the same address twice in a service",
        "Two backends with one address are one server: it gets both shares, and both fail at once.",
    ),
    entry(
        Kind::OwnAddress,
        "BAL023",
        Warning,
        "an address of this host",
        "A service's address that the host itself has is answered by the host where the balancer passes a packet on, and a \
         backend that is the host itself can't be sent to.",
    ),
    entry(
        Kind::Overlap,
        "BAL024",
        Note,
        "services overlap",
        "Packets go to the service that says more: a single port before a range, an address before a prefix, a longer prefix \
         before a shorter. The wider service does not get what this one takes.",
    ),
    entry(
        Kind::Mtu,
        "BAL025",
        Warning,
        "encapsulated packets don't fit the link",
        "Clients send packets of up to 1,500 bytes; with the outer headers they are longer than what this interface takes. The \
         balancer answers them with ICMP \"too big\", but not every sender gets that. Raise the interface's MTU, or set \
         `mss_clamp`.",
    ),
    entry(
        Kind::HealthCheck,
        "BAL026",
        Warning,
        "a health check that can't work, or none",
        "What is not checked, or checked where nobody answers or in a language that is not spoken there, is up or down whatever \
         the server does.",
    ),
    entry(
        Kind::Unequal,
        "BAL027",
        Warning,
        "what should be equal differs",
        "The same server or the same set of servers is described in two places, and not alike. One of them is most likely what \
         was forgotten when the other was changed.",
    ),
    entry(
        Kind::IdleSilence,
        "BAL028",
        Warning,
        "a silence that silences nothing",
        "The finding is gone, or never was where the silence looks for it. What stays would one day hide something else.",
    ),
    entry(
        Kind::UnknownLoad,
        "BAL029",
        Note,
        "loads can't be predicted",
        "A `peak` needs the `capacity` of every backend, and the other way round, before anything can be said about loads.",
    ),
    entry(
        Kind::OneDomain,
        "BAL030",
        Warning,
        "all backends of a service in one failure domain",
        "What takes the domain down takes the service down, however many backends it has.",
    ),
    entry(
        Kind::NoServices,
        "BAL031",
        Warning,
        "no services",
        "Everything that is forwarded would stop. Most often the file was cut off, or another one was meant: SIGHUP, `balancer \
         reload`, `watch_config` and a start refuse it while there are services in force. Where it is meant, accept it at \
         `balancer apply`, or silence this finding in the file and say why.",
    ),
    entry(
        Kind::PublishedSeed,
        "BAL032",
        Warning,
        "a seed that everybody knows",
        "It stands in the documentation. Who knows the seed can open flows that all go to one backend. Draw one, such as with \
         `openssl rand -hex 8`, and give it to all balancers that share services. Established connections stay where they are.",
    ),
    entry(
        Kind::DefaultSeed,
        "BAL033",
        Note,
        "no seed of your own",
        "The default is known to everybody. Who knows the seed can open flows that all go to one backend. Draw one, such as \
         with `openssl rand -hex 8`, and give it to all balancers that share services as `node.seed`. Established connections \
         stay where they are.",
    ),
    entry(
        Kind::TableSize,
        "BAL034",
        Note,
        "a table that is too small or too large for its backends",
        "With fewer than 100 slots for each backend a share is not exact to 1 %, and a change moves more flows than it must. With \
         more than 10,000, and more than the default, each change computes and writes slots that no share needs. Tables are \
         kernel memory: 4 bytes a slot, twice while a table is replaced. More than 1 GiB for all services is said too.",
    ),
];

impl Kind {
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }

    pub fn id(self) -> &'static str {
        self.entry().id
    }
}

/// The entry with this identifier, in any case.
pub fn explained(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_identifiers_are_in_one_order() {
        for (at, entry) in CATALOGUE.iter().enumerate() {
            assert_eq!((entry.kind as usize, entry.id), (at, format!("BAL{:03}", at + 1).as_str()));
            assert_eq!(entry.kind.entry().id, entry.id);
        }
        assert_eq!(explained("bal016").map(|entry| entry.kind), Some(Kind::UnexplainedWeights));
        assert!(explained("BAL999").is_none());
    }

    #[test]
    fn docs_list_every_finding() {
        let docs = include_str!("../../../docs/config.md");
        for entry in &CATALOGUE {
            assert!(
                docs.contains(&format!("| `{}` | {} | {} |", entry.id, entry.severity.as_str(), entry.title)),
                "{}",
                entry.id
            );
        }
    }
}
