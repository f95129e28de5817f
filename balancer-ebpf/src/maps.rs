//! The kernel's maps. Sizes here are placeholders: the controller sets them from its limits when it loads the object.

use core::ops::Deref;

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, xdp_md};
use aya_ebpf::btf_maps::{Array as BtfArray, ArrayOfMaps};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use balancer_common::flow;
use balancer_common::layout::{BackendCounters, BackendEntry, ReplyEntry, ServiceEntry, ServiceKey, Settings};
use balancer_common::slot::{self, BackendIndex, Slot};
use balancer_common::tables::{Route, RouteQuery, Tables};
use balancer_common::verdict::Reason;

use crate::route;

/// A table of any size that userspace can write through memory.
type Table = BtfArray<u64, 1, { (BPF_F_INNER_MAP | BPF_F_MMAPABLE) as usize }>;

#[map]
static SERVICES: HashMap<ServiceKey, ServiceEntry> = HashMap::pinned(1024, 0);
#[btf_map]
static TABLES: ArrayOfMaps<Table, 1024> = ArrayOfMaps::new();
#[map]
static BACKENDS: Array<BackendEntry> = Array::pinned(1024, 0);
#[map]
static COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::pinned(1024, 0);
#[map]
static REPLIES: HashMap<ServiceKey, ReplyEntry> = HashMap::pinned(1024, 0);
#[map]
static DROPS: PerCpuArray<u64> = PerCpuArray::pinned(Reason::ALL.len() as u32, 0);
#[map]
static SEEN: Array<u64> = Array::pinned(flow::SEEN_WORDS, 0);
#[map]
static SETTINGS: Array<Settings> = Array::pinned(1, 0);

pub struct KernelTables {
    pub ctx: *mut xdp_md,
}

impl Tables for KernelTables {
    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<impl Deref<Target = ServiceEntry>> {
        // SAFETY: an entry is constant while its service lives; the controller lets a grace period pass before it
        // uses the memory of a removed one again.
        unsafe { SERVICES.get(key) }
    }

    #[inline(always)]
    fn slot(&self, table: u32, slot: u32) -> Option<Slot> {
        // A table is written before it is published, and freed by the kernel after its last reader.
        let value = TABLES.get_value(table, &slot::value_index(slot))?;
        Some(slot::from_value(*value, slot))
    }

    #[inline(always)]
    fn backend(&self, index: BackendIndex) -> Option<impl Deref<Target = BackendEntry>> {
        BACKENDS.get(u32::from(index))
    }

    #[inline(always)]
    fn count(&self, backend: BackendIndex, bytes: u64, new_flow: bool) {
        let Some(counters) = COUNTERS.get_ptr_mut(u32::from(backend)) else { return };
        // SAFETY: a per-CPU value that only this CPU's program writes.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += bytes;
        counters.new_flows += u64::from(new_flow);
    }

    #[inline(always)]
    fn begins_udp_flow(&self, entropy: u32) -> bool {
        let Some(word) = SEEN.get_ptr_mut(flow::seen_index(entropy)) else { return false };
        // SAFETY: helper without arguments.
        let epoch = (unsafe { bpf_jiffies64() } >> flow::EPOCH_SHIFT) as u16;
        // SAFETY: an aligned word in a map value. Another CPU's write may win; then a flow counts twice.
        unsafe {
            let before = word.read_volatile();
            let (after, new) = flow::see(before, entropy, epoch);
            if after != before {
                word.write_volatile(after);
            }
            new
        }
    }

    #[inline(always)]
    fn has_nat(&self) -> bool {
        SETTINGS.get(0).is_some_and(|settings| settings.nat != 0)
    }

    #[inline(always)]
    fn reply(&self, key: &ServiceKey) -> Option<impl Deref<Target = ReplyEntry>> {
        // SAFETY: as for services.
        unsafe { REPLIES.get(key) }
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        route::look_up(self.ctx, query)
    }
}

#[inline(always)]
pub fn count_drop(reason: Reason) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU value that only this CPU's program writes.
        unsafe { *count += 1 };
    }
}
