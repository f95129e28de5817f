//! The product's maps for the benchmark: ten backends and a table of 65,537 slots for every service.

use std::path::PathBuf;

use anyhow::Result;
use balancer::dataplane::{Changes, DataPlane, IndexContent, NewTable, Opened, Pins, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::capture::Filter;
use balancer_common::encap;
use balancer_common::hash::HashKeys;
use balancer_common::layout::{
    BackendEntry, Former, Kind, LpmKey, PortRange, RateLimits, ServerIdKey, ServiceEntry, ServiceKey, acl_head, flags,
    forward,
};
use balancer_common::slot::Slot;

use super::subjects::{FEATURE_SERVICES, Feature, PLAIN_SERVICES, Service};
use harness::netns::unique;

pub const SLOTS: u32 = 65_537;
pub const BACKENDS: u16 = 10;
pub const KEYS: HashKeys = HashKeys { first: 0x1234_5678_9abc_def0, second: 0x0fed_cba9_8765_4321 };
/// Of the backend that QUIC packets name.
pub const SERVER_ID: [u8; 3] = [0xaa, 0xbb, 0xcc];
/// More than the flows that are sent.
const FLOW_TABLE: u32 = 1_200_000;
const LISTED: u32 = 100_000;

/// A loaded product; its pins go with the value.
pub struct Product {
    pub plane: DataPlane,
    pin_dir: PathBuf,
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = detach(&self.pin_dir);
    }
}

impl Product {
    pub fn new(features: bool) -> Result<Self> {
        let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("bench"));
        let limits = Limits {
            services: 64,
            backends: 1000,
            table_size: SLOTS,
            fragments: if features { 2_000_000 } else { 1024 },
            sources: if features { 2_000_000 } else { 1024 },
            ..Limits::DEFAULT
        };
        let (plane, _) = DataPlane::load(Pins::create(&pin_dir)?, limits, DatapathLog::Warn)?;
        let mut product = Self { plane, pin_dir };
        let mut filling = Filling::default();
        let more = if features { FEATURE_SERVICES } else { &[] };
        for (number, service) in PLAIN_SERVICES.iter().chain(more).enumerate() {
            filling.add(number as u16, service)?;
        }
        filling.changes.index = Some(filling.index);
        product.plane.apply(filling.changes)?;
        Ok(product)
    }

    /// Has the product watch the packets of a service that gets none.
    pub fn watch(&mut self, watching: bool) -> Result<()> {
        if !watching {
            self.plane.watch_no_more();
            return Ok(());
        }
        self.plane.watch(&Filter { service: 63, one_in: 1, interval: 1_000_000, depth: 1_000_000, ..Filter::default() })
    }
}

#[derive(Default)]
struct Filling {
    changes: Changes,
    index: IndexContent,
}

impl Filling {
    fn add(&mut self, number: u16, service: &Service) -> Result<()> {
        let first = number * BACKENDS + 1;
        let key = key(service.ipv6, service.protocol, service.port);
        let entry = entry(number, service.feature);
        self.tables(number, service.feature, &entry, first)?;
        for index in first..first + BACKENDS {
            let backend = backend(service, index);
            self.changes.set_backends.push((index, backend));
            if service.mode == forward::NAT {
                let from = ServiceKey::new(backend.address, backend.port, service.protocol, key.family());
                let reply = ServiceEntry::reply(key.address(), key.port(), 0);
                self.index.entries.insert(from.with_kind(Kind::Reply), reply);
            }
        }
        self.guards(number, service.feature);
        self.look_up(service, key, entry);
        if service.feature == Feature::Quic {
            let [a, b, c] = SERVER_ID;
            let id = u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]);
            self.changes.set_server_ids.push((ServerIdKey { service: u64::from(number), id }, first));
        }
        Ok(())
    }

    fn tables(&mut self, number: u16, feature: Feature, entry: &ServiceEntry, first: u16) -> Result<()> {
        let owner = |slot: u32| first + (slot % u32::from(BACKENDS)) as u16;
        let opens = matches!(feature, Feature::Open | Feature::Full | Feature::Window);
        let slot = |slot| if opens { Slot::open(owner(slot), owner(slot + 1)) } else { Slot::closed(owner(slot)) };
        let slots: Vec<Slot> = (0..SLOTS).map(slot).collect();
        self.changes.publish.push((entry.table, NewTable::new(&slots)?));
        if feature == Feature::Former {
            let slots: Vec<Slot> = (0..SLOTS).map(|slot| Slot::closed(owner(slot + 1))).collect();
            let (table, keys) = (entry.table + 1, HashKeys { first: 1, ..KEYS });
            self.changes.publish.push((table, NewTable::new(&slots)?));
            let former = Former { keys, table, table_size: SLOTS, port_mask: u32::MAX, since: 0 };
            self.changes.former.push((number, former));
        }
        let number = u32::from(number);
        let flows = match feature {
            Feature::Full => 1,
            Feature::Former | Feature::TrackAll => FLOW_TABLE,
            _ if opens => FLOW_TABLE,
            _ => return Ok(()),
        };
        self.changes.flow_tables.push((number, flows));
        self.changes.opened.push(Opened { number, table_size: SLOTS, slots: (0..SLOTS).collect(), now: 0 });
        Ok(())
    }

    fn guards(&mut self, number: u16, feature: Feature) {
        // A million a second, and more of a burst than are sent.
        let (interval, depth) = (1_000, 1 << 62);
        match feature {
            Feature::Rate => self.changes.rates.push((number, RateLimits { interval, depth, ..RateLimits::default() })),
            Feature::SourceRate => self
                .changes
                .rates
                .push((number, RateLimits { source_interval: interval, source_depth: depth, ..RateLimits::default() })),
            Feature::Acl | Feature::Refused => {
                let head = acl_head(number, 0);
                // Spread over half of the address space, none of them about the sources that are sent.
                let listed = |i: u32| 0x8000_0000 | i.wrapping_mul(0x9e37) << 8;
                for i in 0..if feature == Feature::Acl { LISTED } else { 1 } {
                    self.changes.set_acl.push(((32 + 24, [head, listed(i).to_be(), 0, 0, 0]), false));
                }
                if feature == Feature::Refused {
                    self.changes.set_acl.push(((32 + 8, [head, 10, 0, 0, 0]), false));
                }
            }
            _ => {}
        }
    }

    fn look_up(&mut self, service: &Service, key: ServiceKey, entry: ServiceEntry) {
        let range = |low, high| PortRange { low, high, protocol: service.protocol, _padding: [0; 3] };
        let range = match service.feature {
            Feature::Prefix => {
                let at = |port, protocol| LpmKey::service(port, protocol, key.family(), key.address()).data();
                self.changes.set_prefixes.push(((32 + 24, at(key.port(), service.protocol)), entry));
                self.changes.set_prefixes.push(((32 + 24, at(0, 0)), ServiceEntry::default()));
                return;
            }
            Feature::Range => range(service.port - 5, service.port + 5),
            Feature::AllPorts => range(0, u16::MAX),
            _ => {
                self.index.entries.insert(key, entry);
                self.index.ranges.entry(key.address_only()).or_default();
                return;
            }
        };
        self.index.entries.insert(key.with_port(range.low.to_be()).with_kind(Kind::Range), entry);
        self.index.ranges.entry(key.address_only()).or_default().push(range);
    }
}

fn entry(number: u16, feature: Feature) -> ServiceEntry {
    ServiceEntry {
        keys: KEYS,
        table: u32::from(number) * 2,
        table_size: SLOTS,
        port_mask: u32::MAX,
        number,
        flags: match feature {
            Feature::Former => flags::FORMER,
            Feature::TrackAll => flags::TRACK_ALL,
            Feature::Window => flags::WINDOW,
            Feature::Quic => flags::QUIC,
            Feature::Acl | Feature::Refused => flags::ACL,
            Feature::Rate => flags::RATE,
            Feature::SourceRate => flags::SOURCE_RATE,
            _ => 0,
        },
        mss_clamp: if feature == Feature::MssClamp { 1000 } else { 0 },
        quic: if feature == Feature::Quic { SERVER_ID.len() as u8 } else { 0 },
        window: u16::MAX,
        ..ServiceEntry::default()
    }
}

/// Most services share one address; those on ranges and on prefixes have one of their own.
pub fn vip(ipv6: bool, port: u16) -> [u32; 4] {
    let words = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    if ipv6 {
        return [words([0x20, 1, 0xd, 0xb8]), 0, 0, words([0, 0, 0, 1])];
    }
    let feature = FEATURE_SERVICES.iter().find(|service| service.port == port).map(|service| service.feature);
    let address = match feature {
        Some(Feature::Range) => [192, 0, 2, 2],
        Some(Feature::AllPorts) => [192, 0, 2, 3],
        Some(Feature::Prefix) => [198, 51, 100, 0],
        _ => [192, 0, 2, 1],
    };
    [words(address), 0, 0, 0]
}

pub fn key(ipv6: bool, protocol: u8, port: u16) -> ServiceKey {
    let family = if ipv6 { 6 } else { 4 };
    ServiceKey::new(vip(ipv6, port), port.to_be(), protocol, family)
}

pub fn backend(service: &Service, index: u16) -> BackendEntry {
    let outer6 = service.ipv6 || matches!(service.mode, forward::IPIP6 | forward::GUE6);
    let mut address = vip(outer6, 0);
    address[if outer6 { 3 } else { 0 }] ^= u32::from(index).to_be();
    let variant = u8::from(service.feature == Feature::Gue1);
    BackendEntry {
        mac: [2, 0, 0, 0, 0, index as u8],
        source_mac: [2, 0, 0, 0, 1, 0],
        ifindex: 1,
        address,
        outer_source: vip(outer6, 0),
        outer_source_mask: 0xffff_0000,
        port: 8080u16.to_be(),
        mtu: 1500,
        forward: service.mode,
        variant,
        vlan: if service.feature == Feature::Vlan { 7 } else { 0 },
        overhead: encap::overhead(service.mode, variant),
        ..Default::default()
    }
}
