//! Floors: what a packet costs where nothing is asked of the program but the bare steps.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use balancer_common::encap::{Inner, in_ipv4, in_ipv6};
use balancer_common::frame::Frame;
use balancer_common::hash::{self, HashKeys};
use balancer_common::headers::{Be16, Ethernet, Ipv4, Ipv6, Tcp};
use balancer_common::layout::{BackendCounters, BackendEntry, ServiceKey};
use balancer_common::slot;

use crate::frame::XdpFrame;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct FloorService {
    pub keys: HashKeys,
    pub slots: u32,
    pub _padding: u32,
}

#[map]
static FLOOR_SERVICES: HashMap<ServiceKey, FloorService> = HashMap::with_max_entries(1024, 0);
#[map]
static FLOOR_SLOTS: Array<u64> = Array::with_max_entries(32_769, 0);
#[map]
static FLOOR_BACKENDS: Array<BackendEntry> = Array::with_max_entries(1024, 0);
#[map]
static FLOOR_FLOWS: HashMap<u64, u64> = HashMap::with_max_entries(1_200_000, 0);
#[map]
static FLOOR_COUNTERS: PerCpuArray<BackendCounters> = PerCpuArray::with_max_entries(1024, 0);

/// Parse Ethernet, IPv4 and TCP, and turn the packet round.
#[xdp(frags)]
pub fn floor_parse(ctx: XdpContext) -> u32 {
    parse_only(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn parse_only(frame: &mut XdpFrame) -> Option<u32> {
    let ip = frame.at::<Ipv4>(Ethernet::LEN)?;
    if ip.version_ihl != 0x45 {
        return Some(XDP_PASS);
    }
    let tcp = frame.at::<Tcp>(Ethernet::LEN + Ipv4::LEN)?;
    if tcp.destination.0 == 0 {
        return Some(XDP_PASS);
    }
    let ethernet = frame.at::<Ethernet>(0)?;
    core::mem::swap(&mut ethernet.source, &mut ethernet.destination);
    Some(XDP_TX)
}

/// Parse, and look one service up; what is for none is passed.
#[xdp(frags)]
pub fn floor_lookup(ctx: XdpContext) -> u32 {
    look_up(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn look_up(frame: &mut XdpFrame) -> Option<u32> {
    let ip = frame.at::<Ipv4>(Ethernet::LEN)?;
    if ip.version_ihl != 0x45 {
        return Some(XDP_PASS);
    }
    let (destination, protocol) = (ip.destination, ip.protocol);
    let tcp = frame.at::<Tcp>(Ethernet::LEN + Ipv4::LEN)?;
    let key = ServiceKey::new([destination, 0, 0, 0], tcp.destination.0, protocol, 4);
    // SAFETY: nobody writes while the benchmark runs.
    let service = unsafe { FLOOR_SERVICES.get(&key) };
    Some(if service.is_some() { XDP_TX } else { XDP_PASS })
}

/// Straight-line, IPv4: one service look-up, one table load, one backend load, one counter, IP-in-IP.
#[xdp(frags)]
pub fn floor_ipip(ctx: XdpContext) -> u32 {
    straight_ipv4::<true, false>(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

/// The same with MAC addresses rewritten instead.
#[xdp(frags)]
pub fn floor_l2(ctx: XdpContext) -> u32 {
    straight_ipv4::<false, false>(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

/// IP-in-IP, with a look-up of the flow in a table of flows before that of the backend.
#[xdp(frags)]
pub fn floor_flow(ctx: XdpContext) -> u32 {
    straight_ipv4::<true, true>(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn straight_ipv4<const IPIP: bool, const FLOW: bool>(frame: &mut XdpFrame) -> Option<u32> {
    let ip = frame.at::<Ipv4>(Ethernet::LEN)?;
    if ip.version_ihl != 0x45 {
        return Some(XDP_PASS);
    }
    let (destination, protocol) = (ip.destination, ip.protocol);
    let inner = Inner { length: ip.total_length.get(), family: 4, tos: ip.tos, id: ip.id, dont_fragment: true };
    let source = ip.source;
    let tcp = frame.at::<Tcp>(Ethernet::LEN + Ipv4::LEN)?;
    let key = ServiceKey::new([destination, 0, 0, 0], tcp.destination.0, protocol, 4);
    let ports = u32::from(tcp.source.0) | u32::from(tcp.destination.0) << 16;
    // SAFETY: nobody writes while the benchmark runs.
    let service = unsafe { FLOOR_SERVICES.get(&key) }?;
    let hash = hash::ipv4(&service.keys, source, ports);
    if FLOW && FLOOR_FLOWS.get_ptr(&hash).is_none() {
        let _ = FLOOR_FLOWS.insert(hash, hash, 0);
    }
    let backend = backend_of(service, hash, inner.length)?;
    frame.at::<Ipv4>(Ethernet::LEN)?.decrement_ttl();
    if IPIP {
        in_ipv4(frame, &inner, backend, hash::entropy(hash)).ok()?;
    } else {
        let ethernet = frame.at::<Ethernet>(0)?;
        ethernet.destination = backend.mac;
        ethernet.source = backend.source_mac;
    }
    Some(XDP_TX)
}

/// Straight-line, IPv6 in IPv6.
#[xdp(frags)]
pub fn floor_ipip6(ctx: XdpContext) -> u32 {
    straight_ipv6(&mut XdpFrame(ctx.ctx)).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn straight_ipv6(frame: &mut XdpFrame) -> Option<u32> {
    let ip = frame.at::<Ipv6>(Ethernet::LEN)?;
    let (destination, protocol) = (ip.destination, ip.next_header);
    let length = ip.payload_length.get() + Ipv6::LEN as u16;
    let inner = Inner { length, family: 6, tos: ip.traffic_class(), id: Be16(0), dont_fragment: true };
    let source = ip.source;
    let tcp = frame.at::<Tcp>(Ethernet::LEN + Ipv6::LEN)?;
    let key = ServiceKey::new(destination, tcp.destination.0, protocol, 6);
    let ports = u32::from(tcp.source.0) | u32::from(tcp.destination.0) << 16;
    // SAFETY: nobody writes while the benchmark runs.
    let service = unsafe { FLOOR_SERVICES.get(&key) }?;
    let hash = hash::ipv6(&service.keys, &source, ports);
    let backend = backend_of(service, hash, inner.length)?;
    frame.at::<Ipv6>(Ethernet::LEN)?.hop_limit -= 1;
    in_ipv6(frame, &inner, backend, hash::entropy(hash)).ok()?;
    Some(XDP_TX)
}

/// Table, backend, counter.
#[inline(always)]
fn backend_of(service: &FloorService, hash: u64, bytes: u16) -> Option<&'static BackendEntry> {
    let place = hash::slot(hash, service.slots);
    let value = FLOOR_SLOTS.get(slot::value_index(place))?;
    let index = u32::from(slot::from_value(*value, place).owner());
    let backend = FLOOR_BACKENDS.get(index)?;
    let counters = FLOOR_COUNTERS.get_ptr_mut(index)?;
    // SAFETY: a per-CPU value that only this CPU's program writes.
    unsafe {
        (*counters).packets += 1;
        (*counters).bytes += u64::from(bytes);
    }
    Some(backend)
}
