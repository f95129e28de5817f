//! What differs in the kernel, in the words of the config: whose it is, what was written, and what is there.

use balancer_common::layout::{BackendEntry, Kind, PortRange, ServiceEntry, ServiceKey};
use balancer_common::slot::{BackendIndex, Slot};

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::kernel::Kernel;
use crate::controller::kernel::entry::{address_of, v6};
use crate::controller::watch::apart::told_apart;
use crate::controller::watch::gap::gap;
use crate::dataplane::{Difference, SlotDifferences};
use crate::plan::LpmPrefix;

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

    /// Each difference in the words of the config.
    pub(crate) fn named(&self, differences: &[Difference], slots: &SlotDifferences) -> Vec<Gap> {
        let each = differences.iter().map(|difference| self.named_one(difference, slots));
        each.collect()
    }

    fn named_one(&self, difference: &Difference, slots: &SlotDifferences) -> Gap {
        match difference {
            Difference::Slots { place } => self.named_slots(*place, slots.get(place).map_or(&[], Vec::as_slice)),
            Difference::Table { place, written, found } => {
                let found = found.map_or_else(|| "no table".to_owned(), |found| format!("map {found}"));
                let service = self.table_owner(*place).0;
                let gap = planned(catalogue::TABLE.name, &format!("map {written}"), &found);
                Gap { entry: "table".to_owned(), service, ..gap }
            }
            Difference::Entry { key, written, found } => {
                let (service, backend) = self.key_owner(key);
                let texts = (service_entry(*written), service_entry(*found));
                let (expected, there) = told_apart(texts, (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said(key), service, backend, ..gap }
            }
            Difference::Ranges { key, written, found } => {
                let service = self.range_owner(key, written, found);
                let ranges = |ranges: &[PortRange]| {
                    let each = ranges.iter().map(|range| format!("{}-{}", range.low, range.high));
                    each.collect::<Vec<_>>().join(", ")
                };
                let (expected, there) = told_apart((ranges(written), ranges(found)), (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said(key), service, ..gap }
            }
            Difference::Prefix { prefix, written, found } => {
                let service = written.or(*found).and_then(|entry| self.numbered(entry.number).cloned());
                let texts = (service_entry(*written), service_entry(*found));
                let (expected, there) = told_apart(texts, (written, found));
                let gap = planned(catalogue::SERVICE.name, &expected, &there);
                Gap { entry: said_prefix(prefix), service, ..gap }
            }
            Difference::Backend { index, written, found } => {
                let id = self.index_owner(*index);
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
                    index.and_then(|index| self.index_owner(index)).map_or("nobody".to_owned(), |id| id.to_string())
                };
                let (expected, there) = told_apart((owner(written), owner(found)), (written, found));
                let gap = planned(catalogue::SETTINGS.name, &expected, &there);
                Gap { entry: format!("server id {:x}", key.id), ..gap }
            }
            Difference::Rates { number, written, found } => {
                let service = self.numbered(*number).cloned();
                let gap = planned(catalogue::SETTINGS.name, &format!("{written:?}"), &format!("{found:?}"));
                Gap { entry: "rates".to_owned(), service, ..gap }
            }
            Difference::Access { prefix, written, found } => {
                let verdict = |allows: &Option<bool>| match allows {
                    Some(true) => "allowed",
                    Some(false) => "denied",
                    None => "not listed",
                };
                let service = self.numbered((prefix.1[0] & 0xffff) as u16).cloned();
                let gap = planned(catalogue::SETTINGS.name, verdict(written), verdict(found));
                Gap { entry: format!("prefix in a list, {} bits", prefix.0), service, ..gap }
            }
            Difference::Setting { name, written, found } => {
                let gap = planned(catalogue::SETTINGS.name, &format!("{written:#x}"), &format!("{found:#x}"));
                Gap { entry: (*name).to_owned(), ..gap }
            }
        }
    }
}

fn service_entry(entry: Option<ServiceEntry>) -> String {
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
