//! What a probe brought to light.

use std::net::IpAddr;

use super::heard::ErrorKind;
use crate::control::api::Through;

/// What came back of one kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Somebody listens there.
    Open,
    /// Nobody listens on that port, says the host that has the address.
    Closed,
    /// An ICMP error about the packet, or about its outer one.
    Error {
        from: IpAddr,
        kind: ErrorKind,
        outer: bool,
    },
    Silence,
}

impl Answer {
    /// Whether the packet came to where its address is.
    pub(super) fn arrived(self) -> bool {
        matches!(self, Self::Open | Self::Closed)
    }
}

/// A plain connection to the backend's own address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Direct {
    /// Taken or refused: the host is there.
    Answered,
    /// What the system said.
    Failed(String),
}

/// All that is known of the way to one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evidence {
    pub through: Through,
    /// What opens a flow of the service, as clients send it.
    pub opening: Answer,
    /// Asked where that did not arrive.
    pub closer: Option<Closer>,
    /// Asked where something arrived.
    pub sizes: Option<Sizes>,
}

/// A closer look at packets that do not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closer {
    /// The same packet, sent by a socket; absent where it was sent so already.
    pub by_socket: Option<Answer>,
    /// The same with this host's address as the outer source.
    pub known_source: Option<Answer>,
    /// The same encapsulation around a packet for the backend's own address.
    pub own_address: Option<Answer>,
    /// A SYN to other ports of the service's address.
    pub other_port: Option<Answer>,
    pub direct: Direct,
}

impl Closer {
    /// Whether anything came to the service's port after all.
    pub(super) fn has_arrivals(&self) -> bool {
        [self.by_socket, self.known_source].iter().flatten().any(|answer| answer.arrived())
    }
}

/// Bytes of packets, outer headers excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// What the program would send at most.
    pub room: u16,
    /// The same before large packets were sent: routers on the way may have answered.
    pub room_before: u16,
    /// The largest that was tried, and the largest that arrived.
    pub tried: u16,
    pub largest: u16,
}
