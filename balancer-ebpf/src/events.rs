//! Records for the controller. Each function reserves its record in the ring, and does nothing where that is full.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use balancer_common::capture::{Kind, Record, SNAP, WATCHED_SNAP};
use balancer_common::guard;
use balancer_common::tables::WatchedFlow;

use crate::maps;
use crate::opaque::opaque;

/// A fragment that came before its first one.
#[inline(always)]
pub fn hold(ctx: *mut xdp_md) {
    emit(ctx, Kind::Fragment as u64, 0, 0, 0);
}

#[inline(always)]
pub fn learn_mtu(address: &[u32; 4], family: u8, mtu: u32) {
    let Some(mut entry) = maps::EVENTS.reserve::<Record>(0) else { return };
    let [a, b, c, d] = *address;
    // SAFETY: within the record, of which the controller reads these fields only for this kind.
    unsafe {
        let head = &raw mut (*entry.as_mut_ptr()).head;
        (*head).kind = Kind::PathMtu as u64;
        (*head).captured = 0;
        (*head).address = [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32];
        (*head).family = u64::from(family);
        (*head).mtu = u64::from(mtu);
    }
    entry.submit(0);
}

/// Shows the frame as it came, if its flow is watched and the rate allows.
#[inline(always)]
pub fn watch(ctx: *mut xdp_md, service: u32, flow: &WatchedFlow) {
    let (Some(filter), Some(watch)) = (maps::FILTER.get(0), maps::WATCH.get_ptr_mut(0)) else { return };
    // SAFETY: a per-CPU value that only this CPU's program writes.
    let watch = unsafe { &mut *watch };
    watch.active = 0;
    let service = u64::from(service);
    if !filter.wants(service, flow) {
        return;
    }
    // SAFETY: helpers without arguments.
    let (random, now) = unsafe { (bpf_get_prandom_u32(), bpf_ktime_get_ns()) };
    if filter.one_in > 1 && u64::from(random) % filter.one_in != 0 {
        return;
    }
    let Some(bucket) = guard::take(watch.bucket, now, filter.interval, filter.depth) else { return };
    watch.bucket = bucket;
    watch.sequence = watch.sequence.wrapping_add(1);
    watch.active = 1;
    emit(ctx, Kind::Entry as u64, service, 0, 0);
}

/// Shows the frame as it leaves, if it was shown as it came. `way` is the slot (low half) and the backend, `outcome` the
/// word of a verdict.
#[inline(always)]
pub fn watched(ctx: *mut xdp_md, service: u32, way: u64, outcome: u64) {
    let Some(watch) = maps::WATCH.get_ptr_mut(0) else { return };
    // SAFETY: a per-CPU value that only this CPU's program writes.
    let watch = unsafe { &mut *watch };
    if watch.active != 0 {
        watch.active = 0;
        emit(ctx, Kind::Exit as u64, u64::from(service), way, outcome);
    }
}

/// A record with as much of the frame as its kind takes. Every word of it is written here: nothing of it lies on the
/// stack, of which few bytes are left this deep.
#[inline(never)]
fn emit(ctx: *mut xdp_md, kind: u64, service: u64, way: u64, outcome: u64) {
    let Some(mut entry) = maps::EVENTS.reserve::<Record>(0) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: the kernel hands the program a valid context, and the record is as long as what is written to it.
    unsafe {
        let head = &raw mut (*record).head;
        let length = bpf_xdp_get_buff_len(ctx) as u32;
        let snap = if kind == Kind::Fragment as u64 { SNAP as u32 } else { WATCHED_SNAP };
        // One less than is captured: older verifiers do not see that what is compared with 0 is more.
        let last = opaque((if length > snap { snap } else { length }).wrapping_sub(1));
        (*head).kind = kind;
        (*head).outcome = outcome;
        (*head).ifindex = u64::from((*ctx).ingress_ifindex);
        (*head).service = service;
        (*head).way = way;
        (*head).length = u64::from(length);
        (*head).sequence = sequence();
        (*head).time = bpf_ktime_get_ns();
        // One by one, because a call that fills memory would take stack.
        (&raw mut (*head).address[0]).write_volatile(0);
        (&raw mut (*head).address[1]).write_volatile(0);
        (&raw mut (*head).family).write_volatile(0);
        (&raw mut (*head).mtu).write_volatile(0);
        let frame = (&raw mut (*record).frame).cast();
        let whole = last < SNAP as u32 && bpf_xdp_load_bytes(ctx, 0, frame, last + 1) == 0;
        let captured = if whole { last + 1 } else { 0 };
        (*head).captured = u64::from(captured);
    }
    entry.submit(0);
}

/// Of the packet under way: processor (high half) and number.
#[inline(always)]
fn sequence() -> u64 {
    // SAFETY: a helper without arguments, and a per-CPU value that only this CPU's program writes.
    unsafe {
        let number = maps::WATCH.get_ptr_mut(0).map_or(0, |watch| (*watch).sequence);
        u64::from(bpf_get_smp_processor_id()) << 32 | u64::from(number)
    }
}
