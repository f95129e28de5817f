//! Next hops from the kernel's own routes and neighbours, by netlink, followed as they change. The kernel resolves and
//! refreshes: neighbour entries are *managed* (`NTF_EXT_MANAGED`, Linux 5.16), nothing here speaks ARP.

mod decide;
mod netlink;
mod task;

use std::collections::HashSet;
use std::net::IpAddr;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};

use crate::model::{Backend, ForwardMode, Service};

pub use decide::{NextHop, Reachability};

/// An address that packets are to be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Wanted {
    pub address: IpAddr,
    /// The address itself must be on a link of this host (`l2`); otherwise a gateway will do.
    pub on_link: bool,
}

impl Wanted {
    /// Where packets of the service for this backend are to be sent.
    pub fn of(service: &Service, backend: &Backend) -> Self {
        Self { address: backend.address, on_link: service.forward == ForwardMode::L2 }
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    /// Only what changed.
    Reachability(Vec<(Wanted, Reachability)>),
    /// An interface appeared, changed, or went.
    Link(LinkEvent),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    pub name: String,
    pub ifindex: u32,
    pub present: bool,
    pub up: bool,
    /// Largest IP packet in bytes.
    pub mtu: u32,
}

enum Request {
    Want(HashSet<Wanted>),
    Forget(oneshot::Sender<usize>),
}

/// The task that watches the kernel.
#[derive(Debug, Clone)]
pub struct Resolver {
    requests: mpsc::UnboundedSender<Request>,
}

impl Resolver {
    /// Starts watching; `events` must be read, or what is new waits.
    pub fn start(events: mpsc::Sender<Event>) -> Result<Self> {
        let (requests, received) = mpsc::unbounded_channel();
        task::spawn(received, events)?;
        Ok(Self { requests })
    }

    /// Replaces what is resolved.
    pub fn want(&self, wanted: HashSet<Wanted>) {
        let _ = self.requests.send(Request::Want(wanted));
    }

    /// Gives the neighbour entries that were made managed back to the kernel's own housekeeping; says how many.
    pub async fn forget(&self) -> usize {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(Request::Forget(answer));
        answered.await.unwrap_or(0)
    }
}
