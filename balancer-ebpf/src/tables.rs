//! The maps as the packet path asks them.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_NOEXIST, xdp_md};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_map_lookup_elem};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use balancer_common::layout::{
    Activity, BackendEntry, FlowEntry, FlowKey, Former, FragmentEntry, FragmentKey, LpmKey, PortRange, ServerIdKey,
    ServiceEntry, ServiceKey, Settings, SourceKey,
};
use balancer_common::parse::Packet;
use balancer_common::slot::{self, BackendIndex, Slot};
use balancer_common::tables::{Route, RouteQuery, Seen, Tables};
use balancer_common::verdict::{Event, Verdict};
use balancer_common::{flow, guard, index};

use crate::{atomic, events, maps, route, steps};

pub struct KernelTables {
    pub ctx: *mut xdp_md,
    pub settings: &'static Settings,
}

impl KernelTables {
    #[inline(always)]
    fn shape(&self) -> index::Shape {
        index::Shape::of(self.settings.index)
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// aya's key for longest-prefix match is packed, which the verifier refuses on the stack.
#[inline(always)]
fn longest_match<V>(map: &'static LpmTrie<[u32; 5], V>, key: &LpmKey) -> Option<&'static V> {
    let map = (&raw const *map).cast_mut().cast::<c_void>();
    // SAFETY: a map of keys as long as `LpmKey`, and values of type `V` that live until the packet is done.
    unsafe { bpf_map_lookup_elem(map, (&raw const *key).cast()).cast::<V>().as_ref() }
}

impl Tables for KernelTables {
    type Service = &'static ServiceEntry;
    type Backend = &'static BackendEntry;
    type Flow<'a> = &'a mut FlowEntry;

    #[inline(always)]
    fn gates(&self) -> u32 {
        self.settings.gates
    }

    #[inline(always)]
    fn entry(&self, key: &ServiceKey) -> Option<&'static ServiceEntry> {
        let (shape, hash) = (self.shape(), index::hash(key));
        let seed = *maps::SEEDS.get(index::seed_place(&shape, hash))?;
        // The half in force does not change while a packet may be reading it.
        let line = maps::INDEX.get(index::line_place(&shape, hash, seed))?;
        let [a, b, c] = line.key.words();
        let [d, e, f] = key.words();
        ((a ^ d) | (b ^ e) | (c ^ f) == 0).then_some(&line.entry)
    }

    #[inline(always)]
    fn range(&self, place: u32) -> Option<PortRange> {
        maps::RANGES.get(self.shape().ranges + place).copied()
    }

    #[inline(always)]
    fn prefix(&self, key: &LpmKey) -> Option<&'static ServiceEntry> {
        longest_match(&maps::PREFIXES, key)
    }

    #[inline(always)]
    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        // A table is written before it is published, and freed by the kernel after its last reader.
        let value = maps::TABLES.get_value(table, &slot::value_index(slot))?;
        Some(slot::from_value(*value, slot))
    }

    #[inline(always)]
    fn backend(&self, index: BackendIndex) -> Option<&'static BackendEntry> {
        maps::BACKENDS.get(u32::from(index))
    }

    #[inline(always)]
    fn former(&self, number: u16) -> Option<Former> {
        maps::FORMER.get(u32::from(number)).copied()
    }

    #[inline(always)]
    fn identity_keys(&self) -> [u64; 2] {
        self.settings.identity
    }

    #[inline(always)]
    fn flow(&self, number: u16, key: FlowKey) -> Option<&mut FlowEntry> {
        let flows = maps::FLOWS.get(u32::from(number))?;
        let flow = flows.get_ptr_mut(&key)?;
        // SAFETY: alive until the packet is done. Others may write the same fields; each is one word, and whose value
        // stays makes no difference.
        Some(unsafe { &mut *flow.cast::<FlowEntry>() })
    }

    #[inline(always)]
    fn remember(&self, number: u16, key: FlowKey, entry: &FlowEntry) -> bool {
        let Some(flows) = maps::FLOWS.get(u32::from(number)) else { return false };
        flows.insert(key, entry.0, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        self.settings.clock as u32
    }

    #[inline(always)]
    fn strayed(&self, number: u16, slot: u32, now: u32) {
        let Some(activity) = maps::ACTIVITY.get_value_ptr_mut(u32::from(number), &slot) else { return };
        // SAFETY: an aligned half word in a map value. Who writes last wins, and all write the same second.
        unsafe {
            let strayed = activity.cast::<u32>();
            if strayed.read_volatile() != now {
                strayed.write_volatile(now);
            }
        }
    }

    #[inline(always)]
    fn opened(&self, number: u16, slot: u32) -> u32 {
        maps::ACTIVITY.get_value(u32::from(number), &slot).map_or(0, |value| Activity(*value).opened())
    }

    #[inline(always)]
    fn server_id(&self, key: &ServerIdKey) -> Option<BackendIndex> {
        // SAFETY: a word that the controller writes whole.
        unsafe { maps::SERVER_IDS.get(key) }.map(|index| *index as BackendIndex)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentEntry> {
        // SAFETY: written once, before it can be found.
        unsafe { maps::FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, entry: &FragmentEntry) {
        let _ = maps::FRAGMENTS.insert(key, entry, 0);
    }

    #[inline(always)]
    fn hold(&self) {
        events::hold(self.ctx);
    }

    #[inline(always)]
    fn allows(&self, key: &LpmKey) -> Option<bool> {
        longest_match(&maps::ACL, key).map(|allows| *allows != 0)
    }

    #[inline(always)]
    fn take_token(&self, number: u16, source: Option<&SourceKey>) -> bool {
        let Some(limits) = maps::RATES.get(u32::from(number)) else { return true };
        let now = now_ns();
        match source {
            None => {
                let Some(bucket) = maps::BUCKETS.get_ptr_mut(u32::from(number)) else { return true };
                atomic::take(bucket, now, limits.interval, limits.depth)
            }
            Some(key) => match maps::SOURCES.get_ptr_mut(key) {
                Some(bucket) => atomic::take(bucket, now, limits.source_interval, limits.source_depth),
                None => {
                    let first = guard::take(0, now, limits.source_interval, limits.source_depth);
                    let _ = maps::SOURCES.insert(key, &first.unwrap_or(now), 0);
                    first.is_some()
                }
            },
        }
    }

    #[inline(always)]
    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool) {
        let Some(counters) = maps::COUNTERS.get_ptr_mut(u32::from(backend)) else { return };
        // SAFETY: a per-CPU value that only this CPU's program writes.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += bytes;
        counters.new_flows += u64::from(new_flow);
    }

    #[inline(always)]
    fn count_group(&self, backend: BackendIndex, slot: u32) {
        let Some(groups) = maps::GROUPS.get_ptr_mut(u32::from(backend)) else { return };
        // SAFETY: a per-CPU value that only this CPU's program writes; the group is masked to its length.
        unsafe {
            let count = groups.cast::<u32>().add(slot::group(slot) as usize);
            *count = (*count).wrapping_add(1);
        }
    }

    #[inline(always)]
    fn tally(&self, number: u16, event: Event) {
        let Some(counters) = maps::SERVICE_COUNTERS.get_ptr_mut(u32::from(number)) else { return };
        // SAFETY: as above; events are numbered in the order of the counters.
        unsafe { *counters.cast::<u64>().add(event as usize) += 1 };
    }

    #[inline(always)]
    fn begins_udp_flow(&self, entropy: u32, note: bool) -> bool {
        let Some(word) = maps::SEEN.get_ptr_mut(flow::seen_index(entropy)) else { return false };
        // SAFETY: helper without arguments.
        let epoch = (unsafe { bpf_jiffies64() } >> flow::EPOCH_SHIFT) as u16;
        // SAFETY: an aligned word in a map value. Another CPU's write may win; then a flow counts twice.
        unsafe {
            let before = word.read_volatile();
            let (after, new) = flow::see(before, entropy, epoch);
            if note && after != before {
                word.write_volatile(after);
            }
            new
        }
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        route::look_up(self.ctx, query)
    }

    #[inline(always)]
    fn learn_mtu(&self, address: &[u32; 4], family: u8, mtu: u32) {
        events::learn_mtu(address, family, mtu);
    }

    #[inline(always)]
    fn watches(&self) -> bool {
        self.settings.capture != 0
    }

    #[inline(always)]
    fn watch(&self, packet: &Packet, service: u32) {
        if self.settings.capture != 0 {
            steps::step_watch(self.ctx, packet, service);
        }
    }

    #[inline(always)]
    fn watched(&self, _: &Packet, seen: Seen, verdict: Verdict) {
        if self.settings.capture != 0 {
            let way = u64::from(seen.slot) | u64::from(seen.backend) << 32;
            steps::step_watched(self.ctx, seen.service, way, verdict.to_word());
        }
    }
}
