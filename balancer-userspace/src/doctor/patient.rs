//! A backend that is to be probed, and how.

use std::net::{IpAddr, SocketAddr};

use balancer_common::layout::{BackendEntry, ServiceEntry, forward};

use crate::model::{BackendId, Protocol};
use crate::neighbor::Reachability;

#[derive(Debug, Clone)]
pub struct Patient {
    pub id: BackendId,
    pub protocol: Protocol,
    /// The service's address and lowest port.
    pub service: SocketAddr,
    /// The backend's own address, and the port that `nat` sends to.
    pub backend: SocketAddr,
    /// The port that health checks connect to.
    pub checked: u16,
    pub reachability: Reachability,
    pub rules: ServiceEntry,
    /// As the kernel has it; absent while the next hop is not known.
    pub entry: Option<BackendEntry>,
    /// This host's address in the family of the service, and in that of the backend.
    pub source: Option<IpAddr>,
    pub outer: Option<IpAddr>,
    pub way: Way,
    /// Bytes of the largest packet that clients are to be expected to send.
    pub longest: u16,
}

/// How packets get to this backend and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Through the program: it sends flows from these ports there. They come in by an interface with the program in its
    /// driver, or behind it.
    Program { ports: Vec<u16>, ifindex: u32, native: bool },
    /// By a socket, for this reason.
    Socket(String),
}

impl Patient {
    pub(super) fn is_encapsulated(&self) -> bool {
        self.entry.is_some_and(|entry| !matches!(entry.forward, forward::L2 | forward::NAT))
    }

    pub(super) fn is_nat(&self) -> bool {
        self.entry.is_some_and(|entry| entry.forward == forward::NAT)
    }

    /// Whether the service's packets and the backend's address are of one family.
    pub(super) fn is_of_one_family(&self) -> bool {
        self.service.is_ipv4() == self.backend.is_ipv4()
    }
}

/// Bytes of the largest packet that the program sends to a backend with this entry, outer headers excluded.
pub fn room(entry: &BackendEntry) -> u16 {
    entry.mtu.saturating_sub(entry.overhead)
}
