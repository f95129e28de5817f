//! What runs: the data plane, who has which place in its maps, and what was written there. The only room that writes maps.

pub(crate) mod admission;
pub(crate) mod allocate;
pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod counters;
pub(crate) mod drafts;
pub(crate) mod entrance;
pub(crate) mod entry;
pub(crate) mod fill;
pub(crate) mod fragments;
pub(crate) mod interfaces;
pub(crate) mod journal_entry;
pub(crate) mod lookups;
pub(crate) mod outline;
pub(crate) mod owners;
pub(crate) mod pcap;
pub(crate) mod placement;
pub(crate) mod places;
pub(crate) mod planned;
pub(crate) mod samples;
pub(crate) mod settle;
pub(crate) mod tables;
pub(crate) mod tap;
pub(crate) mod tracked;
pub(crate) mod trial;
pub(crate) mod try_tables;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use balancer_common::layout::BackendEntry;
use balancer_common::slot::BackendIndex;

use crate::controller::flows::NewFlows;
use crate::controller::kernel::allocate::Pools;
use crate::controller::kernel::fragments::FragmentBuffer;
use crate::controller::kernel::pcap::Capture;
use crate::controller::kernel::tracked::Tracked;
use crate::controller::kernel::trial::Rehearsal;
use crate::dataplane::{Attached, DataPlane, Image, TableCounts, TableState};
use crate::journal::Journal;
use crate::model::{BackendId, BackendName, Service, ServiceName};
use crate::plan::ServicePlan;
use crate::state::Allocations;

/// A service as it stands in the kernel.
pub(crate) struct KernelService {
    pub(crate) plan: ServicePlan,
    pub(crate) counts: TableCounts,
    pub(crate) generation: u64,
    /// When its table last changed, and the counters then.
    pub(crate) changed: NewFlows,
    pub(crate) tracked: Tracked,
}

impl KernelService {
    /// Whether its table, where it stands, is the one of this plan.
    pub(crate) fn holds(&self, plan: &ServicePlan) -> bool {
        self.plan.same_table(plan)
            && self.plan.entry.table == plan.entry.table
            && !plan.dead.iter().any(|dead| self.counts.settled.contains_key(dead))
    }
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

impl Kernel {
    /// Where the kernel has a backend.
    pub(crate) fn index_of(&self, id: &BackendId) -> Option<BackendIndex> {
        self.allocations.backends.get(id).map(|allocated| allocated.index)
    }

    /// What the kernel has of it.
    pub(crate) fn entry_of(&self, id: &BackendId) -> Option<&BackendEntry> {
        self.image.backends.get(&self.index_of(id)?)
    }

    pub(crate) fn release_fragments(&mut self) {
        self.held.release(&mut self.plane, Instant::now());
    }

    pub(crate) fn is_in_step(&self) -> bool {
        matches!(self.knowledge, Knowledge::InStep)
    }

    /// Whether the last write to the kernel failed.
    pub(crate) fn out_of_step(&self) -> bool {
        !self.is_in_step() || !self.pending.is_empty()
    }

    pub(crate) fn leaving(&self, service: &Service) -> Vec<BackendName> {
        let of_service = self.allocations.leaving.iter().filter(|left| left.id.service == service.name);
        of_service.map(|left| left.id.backend.clone()).collect()
    }
}
