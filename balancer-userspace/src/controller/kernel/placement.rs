//! Places given and taken back in one step.

use std::collections::{BTreeMap, HashMap};

use balancer_common::layout::Former;
use balancer_common::slot::BackendIndex;

use crate::controller::kernel::allocate::Pools;
use crate::dataplane::Counters;
use crate::model::BackendId;
use crate::state::Allocations;

/// Places given and taken back in one step.
#[derive(Default)]
pub(crate) struct Placement {
    /// Of the backends of the services that the step touches.
    pub(crate) counters: BTreeMap<BackendIndex, Counters>,
    pub(crate) now: u32,
    /// What backends that lose their index were sent.
    pub(crate) bases: HashMap<BackendId, Counters>,
    pub(crate) fresh: Vec<u16>,
    pub(crate) freed: Vec<u16>,
    pub(crate) numbered: Vec<u16>,
    pub(crate) freed_numbers: Vec<u16>,
    pub(crate) freed_tables: Vec<u32>,
    pub(crate) former: Vec<(u16, Former)>,
    /// Places that hold the table of a mapping that comes back.
    pub(crate) returning: Vec<u32>,
    /// Who has which place is another than before, though no place is new.
    pub(crate) changed: bool,
    /// Who had which place before the step; only where it changed any.
    pub(crate) before: Option<(Allocations, Pools)>,
}

impl Placement {
    /// Call it before a place changes hands: where the step fails, everybody has the place from before.
    pub(crate) fn remember(&mut self, allocations: &Allocations, pools: &Pools) {
        self.before.get_or_insert_with(|| (allocations.clone(), pools.clone()));
    }

    /// Gives back what a step that succeeded has freed.
    pub(crate) fn release(&self, pools: &mut Pools) {
        self.freed.iter().for_each(|index| pools.backends.give_back(u32::from(*index)));
        self.freed_numbers.iter().for_each(|number| pools.services.give_back(u32::from(*number)));
    }

    /// Whether flows of the service of this number get other slots in this step.
    pub(crate) fn begins_former(&self, number: u16) -> bool {
        self.former.iter().any(|(of, _)| *of == number)
    }

    pub(crate) fn any(&self) -> bool {
        self.changed
            || !self.fresh.is_empty()
            || !self.freed.is_empty()
            || !self.numbered.is_empty()
            || !self.freed_numbers.is_empty()
    }
}
