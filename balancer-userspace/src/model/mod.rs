//! What is true of a validated configuration: pure data, no spans, no I/O, no clocks.
//!
//! `spec` turns a file into these types and nothing else does, so whatever holds one may rely on it:
//! names are unique, tables are prime, address families fit the forwarding mode, limits are kept.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

mod alarming;
mod connections;
mod control;
mod health;
mod name;
mod number;
mod services;

pub use alarming::{Alarming, Receiver, Verify, Webhook, WebhookFormat};
pub use connections::{Connections, Tracking, WhenFull};
pub use control::{ControlPolicy, Principal};
pub use health::{CheckKind, HealthCheck, Jitter};
pub use name::{BackendId, BackendName, NameError, ServiceName};
pub use number::{Fraction, TableSize, Weight};
pub use services::Services;

/// One whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub node: Node,
    pub limits: Limits,
    pub interfaces: Vec<Interface>,
    pub services: Services,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub state_dir: PathBuf,
    /// A directory on a BPF file system, one for each controller on the host.
    pub pin_dir: PathBuf,
    pub control_socket: PathBuf,
    pub control: ControlPolicy,
    pub http_listen: Option<SocketAddr>,
    pub seed: u64,
    /// Apply the file when it changes on disk, not only on SIGHUP.
    pub watch_config: bool,
    /// Outer source addresses of encapsulated packets; host bits are filled from the flow hash.
    pub encap_source_v4: Ipv4Net,
    pub encap_source_v6: Ipv6Net,
    pub datapath_log: DatapathLog,
    /// Generations that are kept.
    pub history: u32,
    /// Without one, only what is asked for by `--guard`.
    pub guard: Option<GuardPolicy>,
    pub verify: Verify,
    pub alarming: Alarming,
    pub profile: ProfilePolicy,
    pub lint: LintPolicy,
}

/// How much is made of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LintPolicy {
    /// By how much weights per capacity may differ between the backends of a service, as a part of the least.
    pub tolerance: Fraction,
    /// A new warning refuses a weight or a drain by command as well; else only errors do.
    pub strict_commands: bool,
}

impl LintPolicy {
    pub const DEFAULT: Self = Self { tolerance: Fraction::TENTH, strict_commands: false };
}

/// What is kept of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfilePolicy {
    /// Today is one of them; 0 keeps nothing.
    pub days: u32,
    /// What one record is of.
    pub interval: Duration,
}

impl ProfilePolicy {
    /// The same day a week ago is there.
    pub const DEFAULT: Self = Self { days: 8, interval: Duration::from_secs(60) };
}

/// How much can go wrong with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Nothing changes.
    None,
    Low,
    Medium,
    High,
}

/// Changes that are put on probation without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardPolicy {
    /// From this risk on.
    pub from: Risk,
    pub duration: Duration,
}

/// Which messages of the XDP program reach the log. `Off` costs nothing in the packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatapathLog {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

/// Sizes of the kernel's maps. They are fixed when the data plane is first loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub services: u32,
    /// Of all services together.
    pub backends: u32,
    /// The largest table a service may ask for, in slots.
    pub table_size: u32,
    /// Fragmented packets remembered at a time.
    pub fragments: u32,
    /// Prefixes of all allow and deny lists together.
    pub acl_prefixes: u32,
    /// Sources whose rate is watched at a time.
    pub sources: u32,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        services: 1024,
        backends: 16_384,
        table_size: TableSize::MAX,
        fragments: 16_384,
        acl_prefixes: 131_072,
        sources: 65_536,
    };

    /// A slot names a backend in 15 bits.
    pub const MOST_BACKENDS: u32 = 32_767;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mode: XdpMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where the driver has it, generic otherwise.
    Auto,
    Native,
    Generic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: ServiceName,
    pub protocol: Protocol,
    /// Of a service on a prefix the first address.
    pub address: IpAddr,
    /// 32 and 128 are one address.
    pub prefix_len: u8,
    /// Of several ports the lowest.
    pub port: u16,
    pub ports: Ports,
    pub forward: ForwardMode,
    pub gue: Gue,
    pub affinity: Affinity,
    pub gate: Gate,
    pub table_size: TableSize,
    pub connections: Connections,
    pub quic: Option<Quic>,
    /// Largest TCP segment that SYNs may offer, in bytes.
    pub mss_clamp: Option<u16>,
    pub guard: Guard,
    /// What clients ask for at the busiest time.
    pub peak: Amount,
    /// No backend should have more of the service.
    pub max_share: Fraction,
    pub health: HealthCheck,
    /// In the order of the file, which nothing else may depend on.
    pub backends: Vec<Backend>,
}

impl Service {
    /// Whether packets to this place are the service's, where no other is more exactly there.
    pub fn covers(&self, protocol: Protocol, to: SocketAddr) -> bool {
        let net = IpNet::new(self.address, self.prefix_len);
        self.protocol == protocol && net.is_ok_and(|net| net.contains(&to.ip())) && self.ports.contain(to.port())
    }

    /// Orders services that cover the same place: the greatest has it.
    pub fn exactness(&self) -> (u8, u32) {
        let width = match self.ports {
            Ports::One(_) => 1,
            Ports::Range(low, high) => u32::from(high) - u32::from(low) + 1,
            Ports::All => u32::from(u16::MAX) + 1,
        };
        (self.prefix_len, u32::MAX - width)
    }

    /// What operators call a backend of it.
    pub fn id_of(&self, backend: &Backend) -> BackendId {
        BackendId { service: self.name.clone(), backend: backend.name.clone() }
    }

    /// Whether packets get outer headers of the balancer's, by which errors about them are known.
    pub fn encapsulates(&self) -> bool {
        matches!(self.forward, ForwardMode::Ipip | ForwardMode::Gue)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub name: BackendName,
    pub address: IpAddr,
    /// Where `nat` sends to and what health checks connect to unless they name a port of their own.
    pub port: u16,
    pub weight: Weight,
    pub server_id: Option<ServerId>,
    /// What the server at this address can take, of all services together.
    pub capacity: Amount,
    /// What fails together has the same: a rack, a switch, a site.
    pub failure_domain: Option<String>,
}

/// So much a second; nothing is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub new_flows: Option<u64>,
    pub bits: Option<u64>,
}

impl Amount {
    pub fn is_known(self) -> bool {
        self.new_flows.is_some() || self.bits.is_some()
    }
}

/// Generic UDP encapsulation (draft-ietf-intarea-gue); used where the service forwards by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gue {
    /// 0: with a header of four bytes; 1: the IP packet stands right behind the UDP header.
    pub variant: u8,
    /// UDP port that backends receive on.
    pub port: u16,
}

impl Gue {
    pub const DEFAULT: Self = Self { variant: 0, port: 6080 };
}

/// Ports of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ports {
    One(u16),
    /// From the first to the last; they differ.
    Range(u16, u16),
    All,
}

impl Ports {
    pub fn contain(&self, port: u16) -> bool {
        match self {
            Self::One(one) => *one == port,
            Self::Range(low, high) => (*low..=*high).contains(&port),
            Self::All => true,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(f),
            Self::Range(low, high) => write!(f, "{low}-{high}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// Routing of QUIC packets by the connection ID (draft-ietf-quic-load-balancers, unencrypted).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quic {
    /// The configuration in the three high bits of a connection ID's first byte, 0 to 6.
    pub config_id: u8,
    /// Length of server ids in bytes, 1 to 8.
    pub id_length: u8,
}

/// What stands for a backend in QUIC connection IDs: `Quic::id_length` bytes, in the order of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    pub bytes: [u8; 8],
    pub length: u8,
}

/// Who may open flows, and how many a second. Nothing set costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// Where there is one, whoever is in none of them is refused.
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
    /// New flows of all sources together.
    pub rate: Option<Rate>,
    /// New flows of one source: an IPv4 address or an IPv6 /64.
    pub source_rate: Option<Rate>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    /// How many may come at once after a pause.
    pub burst: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardMode {
    L2,
    Ipip,
    Gue,
    Nat,
}

/// What of a packet selects its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// The 5-tuple.
    Flow,
    /// The client's address.
    Client,
}

/// What a backend that is new must have behind it before it takes flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Its health check.
    Health,
    /// That, and an examination that found nothing.
    Doctor,
}
