//! Lists of prefixes and rates, brought to the kernel.

use std::collections::BTreeSet;

use anyhow::Result;
use balancer_common::layout::RateLimits;

use crate::controller::kernel::Kernel;
use crate::dataplane::Changes;
use crate::model::ServiceName;
use crate::plan::{LpmPrefix, ServicePlan, acl_prefix};

impl Kernel {
    /// What of the guards of `plans` the kernel does not have. A list that changed is written whole beside the old one,
    /// which goes once no packet is looked up in it.
    pub(crate) fn guard_changes(
        &self,
        plans: &[(ServiceName, ServicePlan)],
        removed: &[ServiceName],
        changes: &mut Changes,
        resync: bool,
    ) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for (name, plan) in plans {
            let before = self.programmed.get(name).map(|programmed| &programmed.plan).filter(|_| !resync);
            if before.map_or(RateLimits::default(), |before| before.rates) != plan.rates || resync {
                changes.rates.push((plan.entry.number, plan.rates));
            }
            let listed = || listed(plan);
            if resync {
                wanted.extend(listed().map(|(prefix, _)| prefix));
            }
            if before.is_some_and(|before| before.entry.acl == plan.entry.acl) {
                continue;
            }
            changes.set_acl.extend(listed());
            changes.remove_acl.extend(before.into_iter().flat_map(listed_prefixes));
        }
        if resync {
            changes.remove_acl =
                self.plane.acl_prefixes()?.into_iter().filter(|prefix| !wanted.contains(prefix)).collect();
        }
        let gone = removed.iter().filter(|_| !resync).filter_map(|name| self.programmed.get(name));
        changes.remove_acl.extend(gone.flat_map(|programmed| listed_prefixes(&programmed.plan)));
        Ok(())
    }
}

fn listed(plan: &ServicePlan) -> impl Iterator<Item = (LpmPrefix, bool)> + '_ {
    let entry = plan.entry;
    plan.acl().map(move |(prefix, allows)| (acl_prefix(entry.number, entry.acl, prefix), allows))
}

fn listed_prefixes(plan: &ServicePlan) -> impl Iterator<Item = LpmPrefix> + '_ {
    listed(plan).map(|(prefix, _)| prefix)
}
