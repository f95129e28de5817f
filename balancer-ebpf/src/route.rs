//! The kernel's own routing table, asked from the packet path.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE,
    bpf_fib_lookup as FibParameters, xdp_md,
};
use aya_ebpf::helpers::bpf_fib_lookup;
use balancer_common::tables::{Route, RouteQuery, Way};

use crate::maps;

/// AF_INET and AF_INET6 of Linux.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[inline(always)]
pub fn look_up(ctx: *mut xdp_md, query: &RouteQuery) -> Route {
    let Some(words) = maps::ROUTE.get_ptr_mut(0) else { return Route::only(Way::Kernel) };
    let words = words.cast::<u64>();
    for place in 0..size_of::<FibParameters>() / size_of::<u64>() {
        // SAFETY: within the map's value. One by one, because a call that fills memory would take stack.
        unsafe { words.add(place).write_volatile(0) };
    }
    // SAFETY: integers and unions of integers only, as long as the map's value, which this CPU alone uses now.
    let parameters = unsafe { &mut *words.cast::<FibParameters>() };
    parameters.family = if query.family == 6 { AF_INET6 } else { AF_INET };
    parameters.l4_protocol = query.protocol;
    // SAFETY: the kernel hands the program a valid context.
    parameters.ifindex = unsafe { (*ctx).ingress_ifindex };
    parameters.__bindgen_anon_1.tot_len = query.length;
    if query.family == 6 {
        parameters.__bindgen_anon_3.ipv6_src = query.source;
        parameters.__bindgen_anon_4.ipv6_dst = query.destination;
    } else {
        parameters.__bindgen_anon_3.ipv4_src = query.source[0];
        parameters.__bindgen_anon_4.ipv4_dst = query.destination[0];
    }
    // SAFETY: a valid context and a parameter block of the size given.
    let answer = unsafe { bpf_fib_lookup(ctx.cast(), words.cast(), size_of::<FibParameters>() as i32, 0) };
    let way = match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Way::Forward,
        // Where forwarding is off the kernel answers so before it looks whether the packet is for this host.
        BPF_FIB_LKUP_RET_NOT_FWDED
        | BPF_FIB_LKUP_RET_FWD_DISABLED
        | BPF_FIB_LKUP_RET_BLACKHOLE
        | BPF_FIB_LKUP_RET_UNREACHABLE
        | BPF_FIB_LKUP_RET_PROHIBIT => Way::Here,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Way::TooBig,
        // No neighbour yet: the kernel resolves it.
        _ => Way::Kernel,
    };
    // SAFETY: words of the parameter block, which is as long as eight. Both addresses end it, without alignment.
    let [length, interface, sixth, seventh] = unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(6).read_volatile(),
            words.add(7).read_volatile(),
        ]
    };
    Route {
        way,
        ifindex: interface & 0xffff_ffff,
        mac: seventh >> 16,
        source_mac: sixth >> 32 | (seventh & 0xffff) << 32,
        // The kernel has written the route's MTU in the place of the length.
        mtu: length >> 48,
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<FibParameters>() == 64);
    assert!(offset_of!(FibParameters, ifindex) == 8);
    assert!(offset_of!(FibParameters, __bindgen_anon_1) == 6);
};
