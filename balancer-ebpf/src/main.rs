//! The XDP program. It gives `balancer_common::datapath` the packet and the kernel's maps, and acts on the verdict.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod atomic;
#[cfg(target_arch = "bpf")]
mod events;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod opaque;
#[cfg(target_arch = "bpf")]
mod route;
#[cfg(target_arch = "bpf")]
mod steps;
#[cfg(target_arch = "bpf")]
mod tables;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::bindings::{xdp_action, xdp_md};
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;
    use aya_log_ebpf::{debug, error};
    use balancer_common::datapath::process;
    use balancer_common::verdict::{Reason, Verdict};

    use crate::frame::XdpFrame;
    use crate::maps;
    use crate::tables::KernelTables;

    // Into the function that the attribute makes: on older kernels a function without a stack takes 32 bytes of it too.
    #[xdp(frags)]
    #[inline(always)]
    pub fn balancer(ctx: XdpContext) -> u32 {
        let mut frame = XdpFrame::new(ctx.ctx);
        let Some(settings) = maps::SETTINGS.get(0) else { return xdp_action::XDP_PASS };
        match process(&mut frame, &KernelTables { ctx: ctx.ctx, settings }) {
            Verdict::Pass => xdp_action::XDP_PASS,
            Verdict::Answer => xdp_action::XDP_TX,
            Verdict::Forward { ifindex } => forward(ctx.ctx, ifindex),
            Verdict::Drop(reason) => dropped(&ctx, reason),
        }
    }

    #[inline(always)]
    fn forward(ctx: *mut xdp_md, ifindex: u32) -> u32 {
        // SAFETY: the kernel hands the program a valid context.
        if ifindex == unsafe { (*ctx).ingress_ifindex } {
            return xdp_action::XDP_TX;
        }
        // SAFETY: a helper call without pointers.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }

    #[inline(always)]
    fn dropped(ctx: &XdpContext, reason: Reason) -> u32 {
        maps::count_drop(reason);
        if reason as u32 == Reason::BackendMissing as u32 {
            error!(
                ctx,
                "a slot names a backend that the backend map does not hold: the maps were changed from outside"
            );
        } else {
            debug!(ctx, "dropped, reason {}", reason as u32);
        }
        xdp_action::XDP_DROP
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this program runs in the kernel: build it with `cargo xtask build-ebpf`");
}
