//! A set of maps with a service for everything that the packet path knows, once as plain collections for the model and
//! once as changes for the kernel.

use anyhow::Result;
use balancer::dataplane::{Changes, IndexContent, NewTable, Opened};
use balancer_common::encap;
use balancer_common::hash::HashKeys;
use balancer_common::layout::{
    BackendEntry, Former, Kind, LpmKey, PortRange, RateLimits, ServerIdKey, ServiceEntry, ServiceKey, acl_head, flags,
    forward,
};
use balancer_common::slot::Slot;

use crate::model::Model;

/// The interface that every backend is behind: none of the test run's, so that all that is forwarded is redirected.
pub const IFINDEX: u32 = 77;
pub const SLOTS: u32 = 101;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
/// Flows that the small flow table takes.
pub const FEW_FLOWS: usize = 64;
const MANY_FLOWS: usize = 60_000;

/// One service: where it is, how it forwards, and what is special about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    pub family: u8,
    pub protocol: u8,
    pub port: u16,
    pub mode: u8,
    pub special: Special,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    Nothing,
    ClientAffinity,
    /// No backend takes flows.
    Empty,
    /// The slots name an index that nobody has.
    Missing,
    /// Every third slot is open.
    Open,
    /// The same, with a flow table that is soon full; of the second what then comes is dropped.
    Full,
    FullDrops,
    TrackAll,
    Window,
    Former,
    Quic,
    Allow,
    Deny,
    Rate,
    SourceRate,
    MssClamp,
    Gue1,
    Vlan,
    Range(u16),
    AllPorts,
    /// On a prefix, on its port or on all.
    Prefix,
    PrefixAll,
}

/// Addresses of the world, by family.
pub fn address(family: u8, last: u8) -> [u32; 4] {
    if family == 4 {
        return [u32::from_ne_bytes([192, 0, 2, last]), 0, 0, 0];
    }
    let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    [word([0x20, 1, 0xd, 0xb8]), 0, 0, word([0, 0, 0, last])]
}

/// Within the prefix that services are on.
pub fn in_prefix(family: u8, last: u8) -> [u32; 4] {
    let mut address = address(family, last);
    let place = if family == 4 { 0 } else { 2 };
    address[place] = if family == 4 { u32::from_ne_bytes([198, 51, 100, last]) } else { 7 };
    address
}

pub const VIP: u8 = 1;
/// A VIP with ranges of ports.
pub const WIDE_VIP: u8 = 2;
pub const FIRST_BACKEND: u8 = 100;
pub const BACKENDS: u8 = 4;
pub const SERVER_ID: [u8; 3] = [0xaa, 0xbb, 0];
pub const QUIC_CONFIG: u8 = 2;
/// Sources of the list that denies, and of the one that allows.
pub const LISTED: [u8; 2] = [10, 66];

pub fn specs() -> Vec<Spec> {
    let mut all = Vec::new();
    let mut port = 1000;
    let mut add = |family, protocol, mode, special| {
        all.push(Spec { family, protocol, port, mode, special });
        port += 1;
    };
    for family in [4, 6] {
        for mode in [forward::L2, forward::NAT, forward::IPIP4, forward::IPIP6, forward::GUE4, forward::GUE6] {
            add(family, TCP, mode, Special::Nothing);
            add(family, UDP, mode, Special::Nothing);
        }
        add(family, SCTP, forward::L2, Special::Nothing);
        add(family, SCTP, forward::IPIP4, Special::Open);
        let specials = [
            (TCP, forward::IPIP4, Special::ClientAffinity),
            (TCP, forward::L2, Special::Empty),
            (TCP, forward::L2, Special::Missing),
            (TCP, forward::IPIP4, Special::Open),
            (TCP, forward::NAT, Special::Open),
            (TCP, forward::L2, Special::Full),
            (TCP, forward::L2, Special::FullDrops),
            (UDP, forward::L2, Special::TrackAll),
            (UDP, forward::L2, Special::Window),
            (TCP, forward::L2, Special::Former),
            (UDP, forward::IPIP6, Special::Quic),
            (TCP, forward::L2, Special::Allow),
            (UDP, forward::L2, Special::Deny),
            (TCP, forward::L2, Special::Rate),
            (TCP, forward::L2, Special::SourceRate),
            (TCP, forward::L2, Special::MssClamp),
            (TCP, forward::NAT, Special::MssClamp),
            (TCP, forward::GUE4, Special::Gue1),
            (UDP, forward::GUE6, Special::Gue1),
            (TCP, forward::L2, Special::Vlan),
            (UDP, forward::IPIP4, Special::Vlan),
            (TCP, forward::L2, Special::Range(50)),
            (UDP, forward::L2, Special::Range(3)),
            (TCP, forward::IPIP4, Special::AllPorts),
            (TCP, forward::L2, Special::Prefix),
            (UDP, forward::L2, Special::PrefixAll),
        ];
        specials.into_iter().for_each(|(protocol, mode, special)| add(family, protocol, mode, special));
    }
    all
}

/// Both sides of the world.
pub struct World {
    pub specs: Vec<Spec>,
    pub model: Model,
    pub changes: Changes,
}

impl World {
    pub fn new() -> Result<Self> {
        let specs = specs();
        let mut world = Self { specs: specs.clone(), model: Model::default(), changes: Changes::default() };
        for (number, spec) in specs.iter().enumerate() {
            world.add(number as u16, spec)?;
        }
        let model = &world.model;
        world.changes.index = Some(IndexContent {
            entries: model.entries.iter().map(|(key, entry)| (*key, *entry)).collect(),
            ranges: model.ranges.clone(),
        });
        world.changes.set_prefixes = model.prefixes.iter().map(|(key, entry)| (*key, *entry)).collect();
        world.changes.set_backends = model.backends.iter().map(|(index, entry)| (*index, *entry)).collect();
        world.changes.set_server_ids = model.server_ids.iter().map(|(key, index)| (*key, *index)).collect();
        world.changes.set_acl = model.acl.iter().map(|(key, allows)| (*key, *allows)).collect();
        world.changes.rates = model.rates.iter().map(|(number, rates)| (*number, *rates)).collect();
        world.changes.former = model.former.iter().map(|(number, former)| (*number, *former)).collect();
        for (place, slots) in &model.tables {
            world.changes.publish.push((*place, NewTable::new(slots)?));
        }
        for (number, size) in &model.flow_tables {
            world.changes.flow_tables.push((u32::from(*number), *size as u32));
            world.changes.opened.push(Opened {
                number: u32::from(*number),
                table_size: SLOTS,
                slots: (0..SLOTS).collect(),
                now: 0,
            });
        }
        Ok(world)
    }

    fn add(&mut self, number: u16, spec: &Spec) -> Result<()> {
        let indices: Vec<u16> = (0..BACKENDS).map(|i| number * u16::from(BACKENDS) + u16::from(i) + 1).collect();
        let vip = match spec.special {
            Special::Range(_) | Special::AllPorts => address(spec.family, WIDE_VIP),
            Special::Prefix | Special::PrefixAll => in_prefix(spec.family, 0),
            _ => address(spec.family, VIP),
        };
        let key = ServiceKey::new(vip, spec.port.to_be(), spec.protocol, spec.family);
        let entry = self.entry(number, spec);
        for (place, index) in indices.iter().enumerate() {
            let backend = backend(spec, place as u8);
            if spec.mode == forward::NAT {
                let from = ServiceKey::new(backend.address, backend.port, spec.protocol, spec.family);
                let reply = ServiceEntry::reply(vip, key.port(), entry.mss_clamp);
                self.model.entries.insert(from.with_kind(Kind::Reply), reply);
            }
            self.model.backends.insert(*index, backend);
            if spec.special == Special::Quic {
                let id = u64::from_le_bytes([SERVER_ID[0], SERVER_ID[1], place as u8, 0, 0, 0, 0, 0]);
                self.model.server_ids.insert(ServerIdKey { service: u64::from(number), id }, *index);
            }
        }
        self.look_up(spec, key, entry);
        self.tables(number, spec, &indices);
        self.guards(number, spec);
        Ok(())
    }

    fn entry(&mut self, number: u16, spec: &Spec) -> ServiceEntry {
        let affinity = spec.special == Special::ClientAffinity;
        ServiceEntry {
            keys: HashKeys { first: 7 * u64::from(number), second: 99 },
            table: u32::from(number) * 2,
            table_size: SLOTS,
            port_mask: if affinity { 0 } else { u32::MAX },
            number,
            flags: match spec.special {
                Special::FullDrops => flags::DROP_WHEN_FULL,
                Special::TrackAll => flags::TRACK_ALL,
                Special::Window => flags::WINDOW,
                Special::Former => flags::FORMER,
                Special::Quic => flags::QUIC,
                Special::Allow => flags::ACL | flags::ACL_REFUSES_OTHERS,
                Special::Deny => flags::ACL,
                Special::Rate => flags::RATE,
                Special::SourceRate => flags::SOURCE_RATE,
                _ => 0,
            },
            mss_clamp: if spec.special == Special::MssClamp { 1000 } else { 0 },
            quic: QUIC_CONFIG << 5 | SERVER_ID.len() as u8,
            // Of every service with a window every flow is older than its slots' opening.
            window: u16::MAX,
            ..ServiceEntry::default()
        }
    }

    fn look_up(&mut self, spec: &Spec, key: ServiceKey, entry: ServiceEntry) {
        let range = |low, high| PortRange { low, high, protocol: spec.protocol, _padding: [0; 3] };
        let range = match spec.special {
            Special::Range(more) => Some(range(spec.port, spec.port + more)),
            Special::AllPorts => Some(range(0, u16::MAX)),
            _ => None,
        };
        match (spec.special, range) {
            (Special::Prefix | Special::PrefixAll, _) => {
                let length = 32 + if spec.family == 4 { 24 } else { 96 };
                let port = if spec.special == Special::Prefix { key.port() } else { 0 };
                let at = |port, protocol| LpmKey::service(port, protocol, spec.family, key.address()).data();
                self.model.prefixes.insert((length, at(port, spec.protocol)), entry);
                self.model.prefixes.insert((length, at(0, 0)), ServiceEntry::default());
            }
            (_, Some(range)) => {
                let lowest = key.with_port(range.low.to_be()).with_kind(Kind::Range);
                self.model.entries.insert(lowest, entry);
                let ranges = self.model.ranges.entry(key.address_only()).or_default();
                ranges.push(range);
                ranges.sort_by_key(|range| range.high - range.low);
            }
            (_, None) => {
                self.model.entries.insert(key, entry);
                self.model.ranges.entry(key.address_only()).or_default();
            }
        }
    }

    fn tables(&mut self, number: u16, spec: &Spec, indices: &[u16]) {
        let owner = |slot: u32| indices[slot as usize % indices.len()];
        let opens = matches!(
            spec.special,
            Special::Open | Special::Full | Special::FullDrops | Special::Window | Special::Quic
        );
        let slot = |slot: u32| match spec.special {
            Special::Empty => Slot::closed(0),
            Special::Missing => Slot::closed(30_000),
            _ if opens && slot.is_multiple_of(3) => Slot::open(owner(slot), owner(slot + 1)),
            // Back to the owner before, after another in between; a drain; a settled owner that went.
            _ if opens && slot == 1 => Slot::open(owner(slot), owner(slot)),
            _ if opens && slot == 2 => Slot::open(0, owner(slot)),
            _ if opens && slot == 4 => Slot::open(owner(slot), 30_000),
            _ => Slot::closed(owner(slot)),
        };
        self.model.tables.insert(u32::from(number) * 2, (0..SLOTS).map(slot).collect());
        if spec.special == Special::Former {
            let former = (0..SLOTS).map(|slot| Slot::closed(owner(slot + 2))).collect();
            self.model.tables.insert(u32::from(number) * 2 + 1, former);
            let keys = HashKeys { first: 1, second: u64::from(number) };
            let table = u32::from(number) * 2 + 1;
            let entry = Former { keys, table, table_size: SLOTS, port_mask: u32::MAX, since: 0 };
            self.model.former.insert(number, entry);
        }
        let size = match spec.special {
            Special::Full | Special::FullDrops => FEW_FLOWS,
            Special::TrackAll | Special::Former => MANY_FLOWS,
            _ if opens => MANY_FLOWS,
            _ => return,
        };
        self.model.flow_tables.insert(number, size);
        for slot in 0..SLOTS {
            let activity = balancer_common::layout::Activity::new(0, 0);
            self.model.activity.borrow_mut().insert((number, slot), activity);
        }
    }

    fn guards(&mut self, number: u16, spec: &Spec) {
        // So slow that what was taken does not come back while a test runs.
        let (interval, depth) = (1 << 50, 40 << 50);
        let mut rates = RateLimits::default();
        match spec.special {
            Special::Rate => (rates.interval, rates.depth) = (interval, depth),
            Special::SourceRate => (rates.source_interval, rates.source_depth) = (interval, 2 * interval),
            Special::Allow | Special::Deny => {
                let head = acl_head(number, 0);
                let source = if spec.family == 4 {
                    [u32::from_ne_bytes([LISTED[0], LISTED[1], 0, 0]), 0, 0, 0]
                } else {
                    [u32::from_ne_bytes([0xfd, LISTED[0], LISTED[1], 0]), 0, 0, 0]
                };
                let length = 32 + if spec.family == 4 { 16 } else { 24 };
                let key = [head, source[0], 0, 0, 0];
                self.model.acl.insert((length, key), spec.special == Special::Allow);
                // A hole in the list.
                let deeper = source[0] | u32::from_ne_bytes([0, 0, if spec.family == 4 { 128 } else { 0 }, 128]);
                let hole = [head, deeper, 0, 0, 0];
                let length = length + if spec.family == 4 { 1 } else { 8 };
                self.model.acl.insert((length, hole), spec.special == Special::Deny);
            }
            _ => {}
        }
        if rates != RateLimits::default() {
            self.model.rates.insert(number, rates);
        }
    }
}

fn backend(spec: &Spec, place: u8) -> BackendEntry {
    let four = matches!(spec.mode, forward::IPIP4 | forward::GUE4) || (spec.family == 4 && spec.mode <= forward::NAT);
    let family = if four { 4 } else { 6 };
    let variant = u8::from(spec.special == Special::Gue1);
    // Under `nat` each service's backends have a port of their own, by which replies are known.
    let port = if spec.mode == forward::NAT { 20_000 + spec.port } else { 6080 };
    BackendEntry {
        mac: [2, 0, 0, 0, 1, place],
        source_mac: [2, 0, 0, 0, 0, 1],
        ifindex: IFINDEX,
        address: address(family, FIRST_BACKEND + place),
        outer_source: if family == 4 { [0x0000_12c6, 0, 0, 0] } else { address(6, 0) },
        outer_source_mask: 0xffff_0000,
        port: port.to_be(),
        mtu: 1500,
        forward: spec.mode,
        variant,
        vlan: if spec.special == Special::Vlan { 0x123 } else { 0 },
        overhead: encap::overhead(spec.mode, variant),
        ..BackendEntry::default()
    }
}
