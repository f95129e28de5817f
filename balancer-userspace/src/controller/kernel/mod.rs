//! What runs: the data plane, who has which place in its maps, and what was written there. The only room that writes maps.

pub(crate) mod admission;
pub(crate) mod allocate;
pub(crate) mod build;
pub(crate) mod fragments;
pub(crate) mod interfaces;
pub(crate) mod lookups;
pub(crate) mod places;
pub(crate) mod planned;
pub(crate) mod settle;
pub(crate) mod step;
pub(crate) mod tables;
pub(crate) mod tap;
pub(crate) mod trial;

use std::collections::{BTreeMap, BTreeSet};

use self::allocate::Pools;
use self::fragments::FragmentBuffer;
use self::settle::Tracked;
use self::tap::Capture;
use self::trial::Rehearsal;
use crate::controller::watch::observer::Moment;
use crate::dataplane::{Attached, DataPlane, Image, TableCounts, TableState};
use crate::journal::Journal;
use crate::model::ServiceName;
use crate::plan::ServicePlan;
use crate::state::Allocations;

/// A service as it stands in the kernel.
pub(crate) struct KernelService {
    pub(crate) plan: ServicePlan,
    pub(crate) counts: TableCounts,
    pub(crate) generation: u64,
    /// When its table last changed, and the counters then.
    pub(crate) changed: Moment,
    pub(crate) tracked: Tracked,
}

/// What is known of the tables in the kernel.
pub(crate) enum Knowledge {
    /// They are as they were written from here.
    InStep,
    /// As they were read back; nothing else is known of them. So it is at the start.
    Read(TableState),
    /// A write failed: they are read back before the next one.
    Unknown,
}

impl Kernel {
    pub(crate) fn is_in_step(&self) -> bool {
        matches!(self.knowledge, Knowledge::InStep)
    }
}

pub(crate) struct Kernel {
    pub(crate) plane: DataPlane,
    pub(crate) programmed: BTreeMap<ServiceName, KernelService>,
    /// What the maps hold, as far as it was written from here.
    pub(crate) image: Image,
    pub(crate) knowledge: Knowledge,
    /// Services whose last step failed; each tick tries again until it succeeds.
    pub(crate) pending: BTreeSet<ServiceName>,
    pub(crate) allocations: Allocations,
    pub(crate) pools: Pools,
    pub(crate) generation: u64,
    pub(crate) journal: Journal,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) interfaces: BTreeMap<String, Result<Attached, String>>,
    pub(crate) held: FragmentBuffer,
    pub(crate) capture: Option<Capture>,
}
