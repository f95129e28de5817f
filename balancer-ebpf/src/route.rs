//! The kernel's own routing table, asked from the packet path.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT,
    BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE, bpf_fib_lookup as FibParameters, xdp_md,
};
use aya_ebpf::helpers::bpf_fib_lookup;
use balancer_common::tables::{Route, RouteQuery};

/// AF_INET and AF_INET6 of Linux.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// On the stack the verifier wants words of 8 bytes aligned.
#[repr(align(8))]
struct Aligned(FibParameters);

#[inline(always)]
pub fn look_up(ctx: *mut xdp_md, query: &RouteQuery) -> Route {
    // SAFETY: integers and unions of integers only.
    let mut aligned: Aligned = unsafe { core::mem::zeroed() };
    let parameters = &mut aligned.0;
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
    let answer = unsafe { bpf_fib_lookup(ctx.cast(), &raw mut *parameters, size_of::<FibParameters>() as i32, 0) };
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {
            Route::Forward { ifindex: parameters.ifindex, mac: parameters.dmac, source_mac: parameters.smac }
        }
        // Where forwarding is off the kernel answers so before it looks whether the packet is for this host.
        BPF_FIB_LKUP_RET_NOT_FWDED
        | BPF_FIB_LKUP_RET_FWD_DISABLED
        | BPF_FIB_LKUP_RET_BLACKHOLE
        | BPF_FIB_LKUP_RET_UNREACHABLE
        | BPF_FIB_LKUP_RET_PROHIBIT => Route::Here,
        // No neighbour yet, or the packet doesn't fit: the kernel resolves, fragments or complains.
        _ => Route::Kernel,
    }
}
