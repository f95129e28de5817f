//! How full the maps are.

use crate::controller::kernel::Kernel;
use crate::doctor::Filled;
use crate::model::Limits;

impl Kernel {
    /// How full the kernel's maps are, those of flow tables apart.
    pub(crate) fn fill(&self, limits: &Limits) -> [Filled; 3] {
        let filled = |map, what: &str, setting, used: usize, capacity: u32| Filled {
            map,
            what: what.to_owned(),
            setting,
            used: used as u64,
            capacity: capacity.into(),
        };
        let listed = self.programmed.values().map(|p| p.plan.acl().count()).sum();
        [
            filled("services", "services", "limits.services", self.pools.services.in_use(), limits.services),
            filled("backends", "backends", "limits.backends", self.pools.backends.in_use(), limits.backends),
            filled("acl", "prefixes of lists", "limits.acl_prefixes", listed, limits.acl_prefixes),
        ]
    }
}
