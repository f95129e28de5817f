//! What the kernel counted.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use balancer_common::slot::BackendIndex;
use balancer_common::verdict::Reason;

use crate::controller::counts::Raw;
use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::index;
use crate::dataplane::Counters;
use crate::model::ServiceName;

impl Kernel {
    /// Counters of the backends that these services have in the kernel.
    pub(crate) fn counters_of(&self, services: &BTreeSet<ServiceName>) -> Result<BTreeMap<BackendIndex, Counters>> {
        let allocations = &self.allocations;
        let placed = services.iter().flat_map(|name| allocations.of_service(name));
        let indices: Vec<BackendIndex> = placed.map(|(_, allocated)| allocated.index).collect();
        // Read in one go, one costs a tenth.
        if indices.len() < self.pools.backends.in_use() / 10 {
            return self.plane.counters_of(&indices);
        }
        let all = self.counters()?;
        let of = |index: BackendIndex| (index, all.get(usize::from(index)).copied().unwrap_or_default());
        Ok(indices.into_iter().map(of).collect())
    }

    /// Counters by index, as the kernel has them.
    pub(crate) fn counters(&self) -> Result<Vec<Counters>> {
        self.plane.counters(index(self.pools.backends.highest()))
    }

    pub(crate) fn raw_counts(&self) -> Result<Raw> {
        let services = self.plane.service_counters(self.pools.services.highest())?;
        Ok(Raw { backends: self.counters()?, services })
    }

    /// Packets dropped, by reason; of fragments those that are lost.
    pub(crate) fn drops(&self) -> Result<BTreeMap<&'static str, u64>> {
        let mut drops = self.plane.drops_by_reason()?;
        if let Some(counted) = drops.get_mut(Reason::Fragment.label()) {
            *counted = self.held.lost(*counted);
        }
        Ok(drops)
    }
}
