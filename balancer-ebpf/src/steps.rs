//! Steps of the packet path as global functions, each verified once and for any arguments. The kernel hands these
//! functions pointers that may be null as far as it knows, and numbers that may be anything.

use aya_ebpf::bindings::xdp_md;
use balancer_common::layout::{BackendEntry, FragmentEntry, ServiceEntry};
use balancer_common::owner::REFUSED;
use balancer_common::parse::{Packet, Parsed, parse};
use balancer_common::slot::{BackendIndex, Slot};
use balancer_common::steps::Steps;
use balancer_common::verdict::{Reason, Verdict};
use balancer_common::{datapath, frame::Frame, guard, icmp, mss, owner, path, quic};

use crate::events;
use crate::frame::XdpFrame;
use crate::maps;
use crate::tables::KernelTables;

/// References from pointers, or a way out.
macro_rules! given {
    ($($pointer:ident),+ else $otherwise:expr) => {
        // SAFETY: callers hand over references; the verifier checks that.
        let ($(Some($pointer),)+) = ($(unsafe { $pointer.as_ref() },)+) else { return $otherwise };
    };
}

/// No reason.
const ADMITTED: u32 = u32::MAX;

/// Without a context where a step asks for none: the compiler would not hand over what is never used, and the verifier
/// misses it.
#[inline(always)]
fn tables(ctx: *mut xdp_md) -> Option<KernelTables> {
    maps::SETTINGS.get(0).map(|settings| KernelTables { ctx, settings })
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_parse(ctx: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: as above.
    let Some(packet) = (unsafe { packet.as_mut() }) else { return 0 };
    parse(&mut XdpFrame::new(ctx), packet).to_word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_owner_in_open(
    service: *const ServiceEntry,
    packet: *const Packet,
    place: u32,
    slot: u32,
) -> u32 {
    given!(service, packet else u32::from(REFUSED));
    let Some(tables) = tables(core::ptr::null_mut()) else { return u32::from(REFUSED) };
    u32::from(owner::in_open(&tables, service, packet, place, Slot(slot)))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_admit(service: *const ServiceEntry, packet: *const Packet, entropy: u32) -> u32 {
    given!(service, packet else ADMITTED);
    let Some(tables) = tables(core::ptr::null_mut()) else { return ADMITTED };
    match guard::admit(&tables, service, packet, entropy) {
        Ok(()) => ADMITTED,
        Err(reason) => reason as u32,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_denies_sender(ctx: *mut xdp_md, service: *const ServiceEntry, error: *const Packet) -> u32 {
    given!(service, error else 0);
    let Some(tables) = tables(ctx) else { return 0 };
    u32::from(guard::denies_sender(&mut XdpFrame::new(ctx), &tables, service, error))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_by_connection_id(ctx: *mut xdp_md, service: *const ServiceEntry, packet: *const Packet) -> u32 {
    given!(service, packet else u32::from(REFUSED));
    let Some(tables) = tables(ctx) else { return u32::from(REFUSED) };
    let index = quic::backend(&mut XdpFrame::new(ctx), &tables, service, packet);
    u32::from(index.unwrap_or(REFUSED))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_clamp(ctx: *mut xdp_md, packet: *const Packet, most: u32) -> u32 {
    given!(packet else 0);
    mss::clamp(&mut XdpFrame::new(ctx), packet, most as u16);
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_error_to_backend(ctx: *mut xdp_md, packet: *const Packet, backend: *const BackendEntry) -> u32 {
    given!(packet, backend else 0);
    u32::from(icmp::to_backend(&mut XdpFrame::new(ctx), packet, backend).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_answer_too_big(ctx: *mut xdp_md, packet: *const Packet, mtu: u32) -> u32 {
    given!(packet else 0);
    u32::from(icmp::answer_too_big(&mut XdpFrame::new(ctx), packet, mtu as u16).is_some())
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_learn_path(ctx: *mut xdp_md, packet: *const Packet) -> u32 {
    given!(packet else 0);
    let Some(tables) = tables(ctx) else { return 0 };
    u32::from(path::learn(&mut XdpFrame::new(ctx), &tables, packet))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_echo(ctx: *mut xdp_md, packet: *const Packet) -> u64 {
    given!(packet else Verdict::Pass.to_word());
    let Some(tables) = tables(ctx) else { return Verdict::Pass.to_word() };
    datapath::echo(&mut XdpFrame::new(ctx), &tables, packet).to_word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_later_fragment(ctx: *mut xdp_md, packet: *const Packet) -> u64 {
    given!(packet else Verdict::Pass.to_word());
    let Some(tables) = tables(ctx) else { return Verdict::Pass.to_word() };
    datapath::later_fragment(&mut XdpFrame::new(ctx), &tables, packet).to_word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_remember_first(packet: *const Packet, about: u64, low: u64, high: u64) -> u32 {
    given!(packet else 0);
    let _ = maps::FRAGMENTS.insert(packet.fragment_key(), FragmentEntry::from_words([about, low, high]), 0);
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_reply(ctx: *mut xdp_md, packet: *const Packet) -> u64 {
    given!(packet else Verdict::Pass.to_word());
    let Some(tables) = tables(ctx) else { return Verdict::Pass.to_word() };
    datapath::reply(&mut XdpFrame::new(ctx), &tables, packet).to_word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_unusable(ctx: *mut xdp_md, packet: *const Packet, reason: u32) -> u64 {
    given!(packet else Verdict::Pass.to_word());
    let (Some(tables), Some(reason)) = (tables(ctx), Reason::from_index(reason)) else {
        return Verdict::Pass.to_word();
    };
    datapath::unusable(&tables, packet, reason).to_word()
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_watch(ctx: *mut xdp_md, packet: *const Packet, service: u32) -> u32 {
    given!(packet else 0);
    events::watch(ctx, service, &packet.flow());
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_watched(ctx: *mut xdp_md, service: u32, way: u64, verdict: u64) -> u32 {
    events::watched(ctx, service, way, verdict);
    0
}

impl Steps for KernelTables {
    #[inline(always)]
    fn parse<F: Frame>(&self, _: &mut F, packet: &mut Packet) -> Parsed {
        Parsed::from_word(step_parse(self.ctx, packet))
    }

    #[inline(always)]
    fn owner_in_open(&self, service: &ServiceEntry, packet: &Packet, place: u32, slot: Slot) -> BackendIndex {
        step_owner_in_open(service, packet, place, slot.0) as BackendIndex
    }

    #[inline(always)]
    fn admit(&self, service: &ServiceEntry, packet: &Packet, entropy: u32) -> Option<Reason> {
        Reason::from_index(step_admit(service, packet, entropy))
    }

    #[inline(always)]
    fn denies_sender<F: Frame>(&self, _: &mut F, service: &ServiceEntry, error: &Packet) -> bool {
        step_denies_sender(self.ctx, service, error) != 0
    }

    #[inline(always)]
    fn by_connection_id<F: Frame>(&self, _: &mut F, service: &ServiceEntry, packet: &Packet) -> Option<BackendIndex> {
        let index = step_by_connection_id(self.ctx, service, packet) as BackendIndex;
        (index != REFUSED).then_some(index)
    }

    #[inline(always)]
    fn clamp<F: Frame>(&self, _: &mut F, packet: &Packet, most: u16) {
        step_clamp(self.ctx, packet, u32::from(most));
    }

    #[inline(always)]
    fn error_to_backend<F: Frame>(&self, _: &mut F, packet: &Packet, backend: &BackendEntry) -> bool {
        step_error_to_backend(self.ctx, packet, backend) != 0
    }

    #[inline(always)]
    fn answer_too_big<F: Frame>(&self, _: &mut F, packet: &Packet, mtu: u16) -> bool {
        step_answer_too_big(self.ctx, packet, u32::from(mtu)) != 0
    }

    #[inline(always)]
    fn learn_path<F: Frame>(&self, _: &mut F, packet: &Packet) -> bool {
        step_learn_path(self.ctx, packet) != 0
    }

    #[inline(always)]
    fn echo<F: Frame>(&self, _: &mut F, packet: &Packet) -> Verdict {
        Verdict::from_word(step_echo(self.ctx, packet))
    }

    #[inline(always)]
    fn remember_first(&self, packet: &Packet, entry: &FragmentEntry) {
        let [about, low, high] = entry.words();
        step_remember_first(packet, about, low, high);
    }

    #[inline(always)]
    fn later_fragment<F: Frame>(&self, _: &mut F, packet: &Packet) -> Verdict {
        Verdict::from_word(step_later_fragment(self.ctx, packet))
    }

    #[inline(always)]
    fn reply<F: Frame>(&self, _: &mut F, packet: &Packet) -> Verdict {
        Verdict::from_word(step_reply(self.ctx, packet))
    }

    #[inline(always)]
    fn unusable(&self, packet: &Packet, reason: Reason) -> Verdict {
        Verdict::from_word(step_unusable(self.ctx, packet, reason as u32))
    }
}
