//! The kernel's maps. Sizes here are placeholders: the controller sets them from its limits when it loads the object.

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps, HashMap as BtfHashMap};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use balancer_common::capture::{Filter, Record, Watch};
use balancer_common::flow;
use balancer_common::layout::{
    BackendCounters, BackendEntry, Bucket, FlowKey, Former, FragmentEntry, FragmentKey, IndexEntry, PortRange,
    RateLimits, ServerIdKey, ServiceCounters, ServiceEntry, Settings, SourceKey,
};
use balancer_common::slot::GroupCounts;
use balancer_common::verdict::Reason;

/// A table of any size that userspace can write through memory.
type Table = BtfArray<u64, 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;
/// Flows of one service; of any size. Their words and not [`balancer_common::layout::FlowEntry`]: before Linux 6.4 a map
/// whose value has a type of its own, as this first one, and one without, as the controller makes them, were not alike.
type Flows = BtfHashMap<FlowKey, u64, 1, { BPF_F_NO_PREALLOC as usize }>;

#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, BPF_F_MMAPABLE);
/// Two halves of lines, of which the settings say one.
#[map]
pub static INDEX: Array<IndexEntry> = Array::pinned(2, BPF_F_MMAPABLE);
#[map]
pub static SEEDS: Array<u64> = Array::pinned(2, BPF_F_MMAPABLE);
#[map]
pub static RANGES: Array<PortRange> = Array::pinned(2, BPF_F_MMAPABLE);
#[map]
pub static PREFIXES: LpmTrie<[u32; 5], ServiceEntry> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);
#[btf_map]
pub static TABLES: ArrayOfMaps<Table, 1024> = ArrayOfMaps::new();
/// By number of the service.
#[map]
pub static FORMER: Array<Former> = Array::pinned(1, 0);
/// For each slot of a service with open slots, when what happened last.
#[btf_map]
pub static ACTIVITY: ArrayOfMaps<Table, 1024> = ArrayOfMaps::new();
#[btf_map]
pub static FLOWS: ArrayOfMaps<Flows, 1024> = ArrayOfMaps::new();
#[map]
pub static SERVICE_COUNTERS: PerCpuArray<ServiceCounters> = PerCpuArray::pinned(1, 0);
#[map]
pub static BACKENDS: Array<BackendEntry> = Array::pinned(1024, 0);
#[map]
pub static COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::pinned(1024, 0);
/// By index of the backend: new flows of its slots, by [`balancer_common::slot::group`].
#[map]
pub static GROUPS: PerCpuArray<GroupCounts> = PerCpuArray::pinned(1024, 0);
#[map]
pub static SERVER_IDS: HashMap<ServerIdKey, u32> = HashMap::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry> = LruHashMap::pinned(1024, 0);
/// 1 allows, 0 denies.
#[map]
pub static ACL: LpmTrie<[u32; 5], u32> = LpmTrie::pinned(1, BPF_F_NO_PREALLOC);
#[map]
pub static RATES: Array<RateLimits> = Array::pinned(1, 0);
#[map]
pub static BUCKETS: Array<Bucket> = Array::pinned(1, 0);
#[map]
pub static SOURCES: LruHashMap<SourceKey, Bucket> = LruHashMap::pinned(1, 0);
#[map]
pub static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(Reason::ALL.len() as u32, 0);
#[map]
pub static SEEN: Array<u64> = Array::pinned(flow::SEEN_WORDS, 0);
#[map]
pub static FILTER: Array<Filter> = Array::pinned(1, 0);
#[map]
pub static WATCH: PerCpuArray<Watch> = PerCpuArray::pinned(1, 0);
/// What is asked of the kernel's routing table, and its answer: the stack is too small for it.
#[map]
pub static ROUTE: PerCpuArray<[u64; 8]> = PerCpuArray::pinned(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(EVENT_BYTES, 0);

/// About 2,000 records; what doesn't fit is lost and nothing waits.
const EVENT_BYTES: u32 = 4 << 20;
const _: () = assert!(EVENT_BYTES.is_power_of_two() && EVENT_BYTES as usize > 100 * size_of::<Record>());

#[inline(always)]
pub fn count_drop(reason: Reason) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU value that only this CPU's program writes.
        unsafe { *count += 1 };
    }
}
