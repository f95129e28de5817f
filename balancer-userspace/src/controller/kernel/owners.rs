//! Whose a number, an index, a table or an entry of the maps is.

use std::collections::BTreeMap;

use balancer_common::layout::{PortRange, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};

use crate::controller::kernel::{Kernel, KernelService};
use crate::dataplane::{Difference, TableCounts};
use crate::model::{BackendId, BackendName, ServiceName};
use crate::plan::{LpmPrefix, acl_prefix};

impl Kernel {
    /// Which service has a number.
    pub(crate) fn numbered(&self, number: u16) -> Option<&ServiceName> {
        let mut services = self.allocations.services.iter();
        services.find(|(_, there)| **there == number).map(|(name, _)| name)
    }

    /// Who has an index: a backend of the service, or one that is leaving it.
    pub(crate) fn owner_name(&self, service: &ServiceName, index: u16) -> Option<BackendName> {
        let present = self.allocations.backends.iter().map(|(id, allocated)| (id, allocated.index));
        let leaving = self.allocations.leaving.iter().map(|left| (&left.id, left.allocated.index));
        let mut all = present.chain(leaving);
        all.find(|(id, there)| id.service == *service && *there == index).map(|(id, _)| id.backend.clone())
    }

    pub(crate) fn table_owner(&self, place: u32) -> (Option<ServiceName>, u32) {
        // The table before the last change of seed, affinity or size stands at the neighbouring place.
        let mut all = self.programmed.iter();
        let found = all.find(|(_, p)| p.plan.entry.table == place || p.plan.entry.table ^ 1 == place);
        found.map_or((None, 0), |(name, p)| (Some(name.clone()), p.plan.entry.table_size))
    }

    pub(crate) fn owners_of(&self, service: Option<&ServiceName>, slot: Slot) -> String {
        let name = |index: BackendIndex| match (index, service) {
            (0, _) => "nobody".to_owned(),
            (_, Some(service)) => {
                self.owner_name(service, index).map_or_else(|| format!("index {index}"), |name| name.to_string())
            }
            _ => format!("index {index}"),
        };
        if slot.is_open() || slot.owner() != slot.settled() {
            format!("{} (flows from before: {})", name(slot.owner()), name(slot.settled()))
        } else {
            name(slot.owner())
        }
    }

    pub(crate) fn index_owner(&self, index: BackendIndex) -> Option<BackendId> {
        let present = self.allocations.backends.iter().map(|(id, allocated)| (id, allocated.index));
        let leaving = self.allocations.leaving.iter().map(|left| (&left.id, left.allocated.index));
        present.chain(leaving).find(|(_, there)| *there == index).map(|(id, _)| id.clone())
    }

    /// Whose ports differ at an address; nobody's where several services share it and none of them is meant alone.
    pub(crate) fn range_owner(
        &self,
        key: &ServiceKey,
        written: &[PortRange],
        found: &[PortRange],
    ) -> Option<ServiceName> {
        let at_address: Vec<(&ServiceName, Option<PortRange>)> = self
            .programmed
            .iter()
            .filter_map(|(name, programmed)| {
                let (address, range) = programmed.plan.address?;
                (address == *key).then_some((name, range))
            })
            .collect();
        meant(&at_address, written, found).cloned()
    }

    pub(crate) fn key_owner(&self, key: &ServiceKey) -> (Option<ServiceName>, Option<BackendName>) {
        for (name, programmed) in &self.programmed {
            let plan = &programmed.plan;
            let reply = plan.replies.iter().any(|(there, _)| there == key);
            if plan.key == Some(*key) || reply {
                return (Some(name.clone()), None);
            }
        }
        // An address that several services share is nobody's alone.
        let at_address = |programmed: &&KernelService| programmed.plan.address.is_some_and(|(there, _)| there == *key);
        let mut sharing = self.programmed.iter().filter(|(_, programmed)| at_address(programmed));
        let only = sharing.next().filter(|_| sharing.next().is_none());
        (only.map(|(name, _)| name.clone()), None)
    }

    /// Everything that the lists of prefixes of all services hold.
    pub(crate) fn access(&self) -> BTreeMap<LpmPrefix, bool> {
        let of_plan = |programmed: &KernelService| {
            let entry = programmed.plan.entry;
            let listed = programmed.plan.acl();
            listed.map(|(prefix, allows)| (acl_prefix(entry.number, entry.acl, prefix), allows)).collect::<Vec<_>>()
        };
        self.programmed.values().flat_map(of_plan).collect()
    }

    pub(crate) fn astray(&self, differences: &[Difference]) -> BTreeMap<u32, Option<TableCounts>> {
        let of_tables = differences.iter().filter_map(|difference| match difference {
            Difference::Table { place, .. } => Some((*place, None)),
            Difference::Slots { place } => {
                Some((*place, self.plane.slots_now(*place).map(|slots| TableCounts::of(&slots))))
            }
            _ => None,
        });
        // Of a table that is not there, its slots don't matter.
        let mut astray = BTreeMap::new();
        of_tables.for_each(|(place, counts)| {
            astray.entry(place).or_insert(counts);
        });
        astray
    }

    /// What a table at this place holds where no slot is open.
    pub(crate) fn planned_slots(&self, place: u32) -> Vec<Slot> {
        let programmed = self.programmed.values().find(|programmed| programmed.plan.entry.table == place);
        programmed.map_or_else(Vec::new, |programmed| programmed.plan.settled_slots())
    }
}

/// Of services at one address, with their ranges of ports, the one that a difference of these ranges is about.
fn meant<'a>(
    at_address: &[(&'a ServiceName, Option<PortRange>)],
    written: &[PortRange],
    found: &[PortRange],
) -> Option<&'a ServiceName> {
    let missing = |range: &PortRange| written.contains(range) && !found.contains(range);
    let mut theirs = at_address.iter().filter(|(_, range)| range.as_ref().is_some_and(missing));
    match (theirs.next(), theirs.next(), at_address) {
        (Some((name, _)), None, _) => Some(name),
        (None, _, [(name, _)]) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_services_share_an_address_the_one_whose_ports_differ_is_named() {
        let range = |low, high| PortRange { low, high, protocol: 6, _padding: [0; 3] };
        let [web, games]: [ServiceName; 2] = ["web", "games"].map(|name| name.parse().unwrap());
        let both = [(&web, Some(range(80, 90))), (&games, Some(range(7000, 7999)))];
        let written = [range(80, 90), range(7000, 7999)];
        assert_eq!(meant(&both, &written, &[range(80, 90)]), Some(&games));
        assert_eq!(meant(&both, &written, &[range(7000, 7999)]), Some(&web));
        assert_eq!(meant(&both, &written, &[]), None, "both are meant");
        assert_eq!(meant(&both, &written, &[written[1], written[0]]), None, "only the order differs");
        assert_eq!(meant(&both[..1], &written[..1], &[range(1, 2)]), Some(&web));
        assert_eq!(meant(&both[..1], &written[..1], &[written[0], range(1, 2)]), Some(&web), "nobody else is there");
    }
}
