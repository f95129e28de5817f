//! The kernel's own routing table, asked from the packet path.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
    BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE,
    bpf_fib_lookup as FibParameters, xdp_md,
};
use aya_ebpf::helpers::bpf_fib_lookup;
use balancer_common::tables::{Route, RouteQuery, Way};

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
    let words = (&raw const aligned).cast::<u64>();
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
