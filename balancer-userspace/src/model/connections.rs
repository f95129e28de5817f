//! What keeps established flows where they are.

use std::time::Duration;

/// What keeps established flows where they are while slots change owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// An open slot closes after this long without a packet to anybody but its owner: flows that are silent for longer
    /// are not kept.
    pub quiet: Duration,
    /// An open slot closes this long after its last change, whatever is sent.
    pub drain_deadline: Duration,
    /// Entries of the service's flow table.
    pub flow_table: u32,
    pub when_full: WhenFull,
    pub tracking: Tracking,
}

impl Connections {
    pub const DEFAULT: Self = Self {
        quiet: Duration::from_secs(120),
        drain_deadline: Duration::from_secs(3600),
        flow_table: 131_072,
        when_full: WhenFull::Settled,
        tracking: Tracking::Window(Duration::from_secs(10)),
    };
}

/// What a new flow of an open slot gets when the flow table is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The settled owner, where it needs no entry: nothing breaks, and the change takes effect later.
    Settled,
    /// Nothing: it is dropped and counted.
    Drop,
}

/// How UDP flows, which have no SYN, are kept. TCP and SCTP are always kept, without this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// The table alone decides.
    None,
    /// For this long after a change, a flow that is not known counts as one from before it.
    Window(Duration),
    /// Every flow has an entry.
    Full,
}
