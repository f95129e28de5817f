//! The packet path in userspace over plain collections: what the loaded program is compared with.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, HashMap};

use balancer_common::guard;
use balancer_common::layout::{
    Activity, BackendCounters, BackendEntry, FlowEntry, FlowKey, Former, FragmentEntry, FragmentKey, Kind, LpmKey,
    PortRange, RateLimits, ServerIdKey, ServiceCounters, ServiceEntry, ServiceKey, SourceKey, gates,
};
use balancer_common::parse::Packet;
use balancer_common::slot::{self, BackendIndex, GroupCounts, Slot};
use balancer_common::tables::{Route, RouteQuery, Seen, Tables, Way};
use balancer_common::verdict::{Event, Verdict};

/// A prefix of a map for longest-prefix match: its length and the key's other bits.
pub type Prefix = (u32, [u32; 5]);

/// The maps' content.
#[derive(Default)]
pub struct Model {
    pub entries: HashMap<ServiceKey, ServiceEntry>,
    /// Ranges of ports of each address, in the order in which they win.
    pub ranges: BTreeMap<ServiceKey, Vec<PortRange>>,
    pub prefixes: HashMap<Prefix, ServiceEntry>,
    /// Slots by place of the table.
    pub tables: HashMap<u32, Vec<Slot>>,
    pub former: HashMap<u16, Former>,
    pub backends: HashMap<BackendIndex, BackendEntry>,
    pub server_ids: HashMap<ServerIdKey, BackendIndex>,
    pub acl: HashMap<Prefix, bool>,
    pub rates: HashMap<u16, RateLimits>,
    pub identity: [u64; 2],
    /// Entries of each service's flow table; the others have none.
    pub flow_tables: HashMap<u16, usize>,
    pub now_ns: Cell<u64>,
    /// In the units of [`balancer_common::clock`].
    pub clock: Cell<u32>,
    /// Takes the short way where there is one, as the program does; else the thorough way always.
    pub short: Cell<bool>,
    pub counters: RefCell<HashMap<BackendIndex, BackendCounters>>,
    pub groups: RefCell<HashMap<BackendIndex, GroupCounts>>,
    pub tallies: RefCell<HashMap<u16, ServiceCounters>>,
    pub flows: RefCell<HashMap<(u16, FlowKey), FlowEntry>>,
    /// How many of them each service has.
    pub flow_counts: RefCell<HashMap<u16, usize>>,
    pub activity: RefCell<HashMap<(u16, u32), Activity>>,
    pub fragments: RefCell<HashMap<FragmentKey, FragmentEntry>>,
    pub buckets: RefCell<HashMap<(u16, Option<SourceKey>), u64>>,
    /// Who a packet of a service was for, as last shown.
    pub seen: Cell<Option<Seen>>,
    /// Path MTUs: address, its family, bytes.
    pub learnt: RefCell<Vec<([u32; 4], u8, u32)>>,
    /// Fragments handed over for later.
    pub held: Cell<u64>,
}

/// The value at the longest prefix that a key matches.
fn longest<V: Copy>(map: &HashMap<Prefix, V>, key: &LpmKey) -> Option<V> {
    let bits = |data: [u32; 5]| data.map(u32::to_ne_bytes).concat();
    let key = bits(key.data());
    let matches = |(length, data): &Prefix| {
        let (prefix, whole) = (bits(*data), *length as usize / 8);
        let rest = length % 8;
        prefix[..whole] == key[..whole] && (rest == 0 || prefix[whole] >> (8 - rest) == key[whole] >> (8 - rest))
    };
    map.iter().filter(|(prefix, _)| matches(prefix)).max_by_key(|((length, _), _)| *length).map(|(_, value)| *value)
}

impl Model {
    /// Forgets all that packets left behind.
    pub fn forget(&self) {
        self.flows.borrow_mut().clear();
        self.flow_counts.borrow_mut().clear();
        self.fragments.borrow_mut().clear();
        self.buckets.borrow_mut().clear();
        self.counters.borrow_mut().clear();
        self.groups.borrow_mut().clear();
        self.tallies.borrow_mut().clear();
    }
}

impl Tables for Model {
    type Service = Box<ServiceEntry>;
    type Backend = Box<BackendEntry>;
    type Flow<'a> = RefMut<'a, FlowEntry>;

    fn gates(&self) -> u32 {
        let has = |kind: Kind| self.entries.keys().any(|key| key.kind() == kind as u8);
        let gate = |open, gate| if open { gate } else { 0 };
        gate(has(Kind::Reply), gates::NAT)
            | gate(has(Kind::Range), gates::RANGES)
            | gate(!self.prefixes.is_empty(), gates::PREFIXES)
    }

    fn entry(&self, key: &ServiceKey) -> Option<Box<ServiceEntry>> {
        if *key == key.address_only() {
            let mut first = 0;
            for (address, ranges) in &self.ranges {
                if address == key {
                    return Some(Box::new(ServiceEntry::address(first, ranges.len() as u32)));
                }
                first += ranges.len() as u32;
            }
            return None;
        }
        self.entries.get(key).map(|entry| Box::new(*entry))
    }

    fn range(&self, place: u32) -> Option<PortRange> {
        self.ranges.values().flatten().nth(place as usize).copied()
    }

    fn prefix(&self, key: &LpmKey) -> Option<Box<ServiceEntry>> {
        longest(&self.prefixes, key).map(Box::new)
    }

    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        self.tables.get(&table)?.get(slot as usize).copied()
    }

    fn backend(&self, index: BackendIndex) -> Option<Box<BackendEntry>> {
        self.backends.get(&index).map(|backend| Box::new(*backend))
    }

    fn former(&self, number: u16) -> Option<Former> {
        self.former.get(&number).copied()
    }

    fn identity_keys(&self) -> [u64; 2] {
        self.identity
    }

    fn flow(&self, number: u16, key: FlowKey) -> Option<RefMut<'_, FlowEntry>> {
        RefMut::filter_map(self.flows.borrow_mut(), |flows| flows.get_mut(&(number, key))).ok()
    }

    fn remember(&self, number: u16, key: FlowKey, entry: &FlowEntry) -> bool {
        let mut flows = self.flows.borrow_mut();
        let Some(size) = self.flow_tables.get(&number) else { return false };
        let mut counts = self.flow_counts.borrow_mut();
        let count = counts.entry(number).or_default();
        if *count >= *size {
            return false;
        }
        *count += 1;
        flows.insert((number, key), *entry);
        true
    }

    fn now(&self) -> u32 {
        self.clock.get()
    }

    fn strayed(&self, number: u16, slot: u32, now: u32) {
        let mut all = self.activity.borrow_mut();
        let opened = all.get(&(number, slot)).map_or(0, |activity| activity.opened());
        all.insert((number, slot), Activity::new(now, opened));
    }

    fn opened(&self, number: u16, slot: u32) -> u32 {
        self.activity.borrow().get(&(number, slot)).map_or(0, |activity| activity.opened())
    }

    fn server_id(&self, key: &ServerIdKey) -> Option<BackendIndex> {
        self.server_ids.get(key).copied()
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) {
        self.fragments.borrow_mut().insert(*key, *entry);
    }

    fn hold(&self) {
        self.held.set(self.held.get() + 1);
    }

    fn allows(&self, key: &LpmKey) -> Option<bool> {
        longest(&self.acl, key)
    }

    fn take_token(&self, number: u16, source: Option<&SourceKey>) -> bool {
        let Some(limits) = self.rates.get(&number) else { return true };
        let (interval, depth) = match source {
            None => (limits.interval, limits.depth),
            Some(_) => (limits.source_interval, limits.source_depth),
        };
        let mut buckets = self.buckets.borrow_mut();
        let bucket = buckets.entry((number, source.copied())).or_default();
        match guard::take(*bucket, self.now_ns.get(), interval, depth) {
            Some(next) => {
                *bucket = next;
                true
            }
            None => false,
        }
    }

    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool) {
        let mut all = self.counters.borrow_mut();
        let counters = all.entry(backend).or_default();
        counters.packets += 1;
        counters.bytes += bytes;
        counters.new_flows += u64::from(new_flow);
    }

    fn count_group(&self, backend: BackendIndex, slot: u32) {
        self.groups.borrow_mut().entry(backend).or_default()[slot::group(slot) as usize] += 1;
    }

    fn tally(&self, number: u16, event: Event) {
        let mut all = self.tallies.borrow_mut();
        let of = all.entry(number).or_default();
        let counter = match event {
            Event::FlowTableFull => &mut of.flow_table_full,
            Event::QuicUnknown => &mut of.quic_unknown,
            Event::QuicRouted => &mut of.quic_routed,
            Event::AclRefused => &mut of.acl_refused,
            Event::RateLimited => &mut of.rate_limited,
            Event::SourceLimited => &mut of.source_limited,
            Event::IcmpRelayed => &mut of.icmp_relayed,
            Event::TooBigAnswered => &mut of.too_big_answered,
            Event::SynRepeated => &mut of.syn_repeated,
        };
        *counter += 1;
    }

    /// Depends on the kernel's clock; new flows are compared for TCP only.
    fn begins_udp_flow(&self, _: u32, _: bool) -> bool {
        false
    }

    /// A test run has no interface that could forward.
    fn route(&self, _: &RouteQuery) -> Route {
        Route::only(Way::Here)
    }

    fn learn_mtu(&self, address: &[u32; 4], family: u8, mtu: u32) {
        self.learnt.borrow_mut().push((*address, family, mtu));
    }

    fn watches(&self) -> bool {
        !self.short.get()
    }

    fn watch(&self, _: &Packet, _: u32) {}

    fn watched(&self, _: &Packet, seen: Seen, _: Verdict) {
        self.seen.set(Some(seen));
    }
}

impl balancer_common::steps::Steps for Model {}
