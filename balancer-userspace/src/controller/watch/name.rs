//! What differs in the kernel, in the words of the config: whose it is, what was written, and what is there.

use std::collections::BTreeMap;

use balancer_common::layout::{BackendEntry, Kind, PortRange, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::answer::explain::{address_of, v6};
use crate::controller::kernel::Kernel;
use crate::controller::kernel::KernelService;
use crate::controller::state::State;
use crate::controller::watch::apart::told_apart;
use crate::controller::watch::compare::gap;
use crate::dataplane::{Difference, SlotDifferences};
use crate::model::{BackendId, ServiceName};
use crate::plan::{LpmPrefix, acl_prefix};

/// The entry that a gap names where a table differs of which only the sum is known: the one before a change of seed,
/// affinity or table size.
pub(crate) const UNKNOWN_SLOTS: &str = "slots of the former table";

impl Kernel {
    fn named_slots(&self, place: u32, slots: &[(u32, Slot, Slot)]) -> Gap {
        let (service, size) = self.table_owner(place);
        let Some((slot, written, found)) = slots.first() else {
            let gap = planned(catalogue::TABLE.name, "what was written", "something else");
            return Gap { entry: UNKNOWN_SLOTS.to_owned(), service, ..gap };
        };
        let owner = |slot: &Slot| self.owners_of(service.as_ref(), *slot);
        Gap {
            entry: format!("slot {slot} of {size}"),
            others: slots.len() as u64 - 1,
            service: service.clone(),
            ..planned(catalogue::TABLE.name, &owner(written), &owner(found))
        }
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

    fn table_owner(&self, place: u32) -> (Option<ServiceName>, u32) {
        // The table before the last change of seed, affinity or size stands at the neighbouring place.
        let mut all = self.programmed.iter();
        let found = all.find(|(_, p)| p.plan.entry.table == place || p.plan.entry.table ^ 1 == place);
        found.map_or((None, 0), |(name, p)| (Some(name.clone()), p.plan.entry.table_size))
    }

    fn owners_of(&self, service: Option<&ServiceName>, slot: Slot) -> String {
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

    fn index_owner(&self, index: BackendIndex) -> Option<BackendId> {
        let present = self.allocations.backends.iter().map(|(id, allocated)| (id, allocated.index));
        let leaving = self.allocations.leaving.iter().map(|left| (&left.id, left.allocated.index));
        present.chain(leaving).find(|(_, there)| *there == index).map(|(id, _)| id.clone())
    }

    /// Whose ports differ at an address; nobody's where several services share it and none of them is meant alone.
    fn range_owner(&self, key: &ServiceKey, written: &[PortRange], found: &[PortRange]) -> Option<ServiceName> {
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

    fn key_owner(&self, key: &ServiceKey) -> (Option<ServiceName>, Option<crate::model::BackendName>) {
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
}

impl State {
    pub(crate) fn named(&self, differences: &[Difference], slots: &SlotDifferences) -> Vec<Gap> {
        let each = differences.iter().map(|difference| self.named_one(difference, slots));
        each.collect()
    }

    fn named_one(&self, difference: &Difference, slots: &SlotDifferences) -> Gap {
        match difference {
            Difference::Slots { place } => self.kernel.named_slots(*place, slots.get(place).map_or(&[], Vec::as_slice)),
            Difference::Table { place, written, found } => {
                let found = found.map_or_else(|| "no table".to_owned(), |found| format!("map {found}"));
                let service = self.kernel.table_owner(*place).0;
                let gap = planned(catalogue::TABLE.name, &format!("map {written}"), &found);
                Gap { entry: "table".to_owned(), service, ..gap }
            }
            Difference::Entry { key, written, found } => {
                let (service, backend) = self.kernel.key_owner(key);
                let texts = (self.entry(*written), self.entry(*found));
                let (expected, there) = told_apart(texts, (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said(key), service, backend, ..gap }
            }
            Difference::Ranges { key, written, found } => {
                let service = self.kernel.range_owner(key, written, found);
                let ranges = |ranges: &[PortRange]| {
                    let each = ranges.iter().map(|range| format!("{}-{}", range.low, range.high));
                    each.collect::<Vec<_>>().join(", ")
                };
                let (expected, there) = told_apart((ranges(written), ranges(found)), (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said(key), service, ..gap }
            }
            Difference::Prefix { prefix, written, found } => {
                let service = written.or(*found).and_then(|entry| self.numbered(entry.number));
                let texts = (self.entry(*written), self.entry(*found));
                let (expected, there) = told_apart(texts, (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said_prefix(prefix), service: service.map(|service| service.name.clone()), ..gap }
            }
            Difference::Backend { index, written, found } => {
                let id = self.kernel.index_owner(*index);
                let texts = (backend(*written), backend(*found));
                let (expected, there) = told_apart(texts, (written, found));
                let gap = planned(catalogue::BACKEND.name, &expected, &there);
                Gap {
                    entry: format!("backend entry {index}"),
                    service: id.as_ref().map(|id| id.service.clone()),
                    backend: id.map(|id| id.backend),
                    ..gap
                }
            }
            Difference::ServerId { key, written, found } => {
                let owner = |index: &Option<BackendIndex>| {
                    index
                        .and_then(|index| self.kernel.index_owner(index))
                        .map_or("nobody".to_owned(), |id| id.to_string())
                };
                let (expected, there) = told_apart((owner(written), owner(found)), (written, found));
                let gap = planned(catalogue::SETTINGS.name, &expected, &there);
                Gap { entry: format!("server id {:x}", key.id), ..gap }
            }
            Difference::Rates { number, written, found } => {
                let service = self.numbered(*number).map(|service| service.name.clone());
                let gap = planned(catalogue::SETTINGS.name, &format!("{written:?}"), &format!("{found:?}"));
                Gap { entry: "rates".to_owned(), service, ..gap }
            }
            Difference::Access { prefix, written, found } => {
                let verdict = |allows: &Option<bool>| match allows {
                    Some(true) => "allowed",
                    Some(false) => "denied",
                    None => "not listed",
                };
                let service = self.numbered((prefix.1[0] & 0xffff) as u16).map(|service| service.name.clone());
                let gap = planned(catalogue::SETTINGS.name, verdict(written), verdict(found));
                Gap { entry: format!("prefix in a list, {} bits", prefix.0), service, ..gap }
            }
            Difference::Setting { name, written, found } => {
                let gap = planned(catalogue::SETTINGS.name, &format!("{written:#x}"), &format!("{found:#x}"));
                Gap { entry: (*name).to_owned(), ..gap }
            }
        }
    }

    fn entry(&self, entry: Option<ServiceEntry>) -> String {
        let Some(entry) = entry else { return "no entry".to_owned() };
        let ServiceEntry { table, table_size, number, flags, port_mask, mss_clamp, .. } = entry;
        let mut said = format!("number {number}, table {table} of {table_size} slots, flags {flags:#x}");
        if port_mask == 0 {
            said += ", by client";
        }
        if mss_clamp != 0 {
            said += &format!(", MSS {mss_clamp}");
        }
        said + &format!(", keys {:08x}…", entry.keys.first >> 32)
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

fn planned(alarm: &str, expected: &str, found: &str) -> Gap {
    gap(alarm, Layer::Planned, Layer::Kernel, expected, found)
}

fn backend(entry: Option<BackendEntry>) -> String {
    let Some(entry) = entry else { return "no entry".to_owned() };
    let mac = entry.mac.map(|byte| format!("{byte:02x}")).join(":");
    let BackendEntry { ifindex, mtu, forward, vlan, overhead, .. } = entry;
    let port = u16::from_be(entry.port);
    format!(
        "{} by {mac} on interface {ifindex}, mode {forward}, MTU {mtu} less {overhead}, port {port}, VLAN {vlan}",
        address_of(&entry)
    )
}

fn said(key: &ServiceKey) -> String {
    let [first, ..] = key.address();
    let address = if key.family() == 4 { std::net::IpAddr::from(first.to_ne_bytes()) } else { v6(key.address()) };
    let port = u16::from_be(key.port());
    let kind = match key.kind() {
        kind if kind == Kind::Address as u8 => "address",
        kind if kind == Kind::Reply as u8 => "replies of",
        kind if kind == Kind::Range as u8 => "ports from",
        _ => "service",
    };
    if key.kind() == Kind::Address as u8 {
        format!("{kind} {address}")
    } else {
        format!("{kind} {address} port {port}")
    }
}

fn said_prefix((length, _): &LpmPrefix) -> String {
    format!("prefix entry of {length} bits")
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
