//! Which ICMP "too big" is believed. Anybody can send one about a packet that was never sent (RFC 5927): a path MTU is
//! taken only from an error that quotes what this balancer sent to a backend. The outer source of that holds bits of the
//! flow's keyed hash, which nobody else can compute.

use crate::encap;
use crate::frame::Frame;
use crate::hash;
use crate::headers::{Gue, Icmp, Ipv4, Ipv6, PROTOCOL_IPIP, PROTOCOL_IPV6, PROTOCOL_UDP, Ports, Udp};
use crate::icmp;
use crate::layout::ServiceKey;
use crate::lookup;
use crate::parse::{Packet, is_transport, ports, within};
use crate::slot::{BackendIndex, NO_BACKEND};
use crate::tables::Tables;

/// Takes in an error that is about no packet of a service. True where it was believed: it says how large the packets may
/// be that go to a backend.
#[inline(always)]
pub fn learn<F: Frame, T: Tables>(frame: &mut F, tables: &T, error: &Packet) -> bool {
    let Some(mtu) = icmp::too_big(frame, error.is_ipv6(), error.transport()) else { return false };
    let believed = is_about_ours(frame, tables, error).is_some();
    if believed {
        tables.learn_mtu(&error.source(), error.destination.family(), mtu);
    }
    believed
}

/// Whether the balancer sends the packets of the quoted flow from the quoted outer source. That the quoted destination is
/// a backend is for the controller to see, which knows them all.
#[inline(always)]
fn is_about_ours<F: Frame, T: Tables>(frame: &mut F, tables: &T, error: &Packet) -> Option<()> {
    let (at, family) = inner(frame, error)?;
    let (key, source, ports) = flow(frame, error, at, family)?;
    let service = lookup::service(tables, &key)?;
    let hash = hash::of_flow(&service.keys, family == 6, &source, ports & service.port_mask);
    let slot = tables.slot(service.table, hash::slot(hash, service.table_size))?;
    let entropy = hash::entropy(hash);
    let sends = |index: BackendIndex| {
        index != NO_BACKEND
            && tables.backend(index).is_some_and(|backend| encap::sends(&backend, entropy, family, error))
    };
    (sends(slot.owner()) || slot.is_open() && sends(slot.settled())).then_some(())
}

/// Where the packet in the quoted packet begins, and its family.
#[inline(always)]
fn inner<F: Frame>(frame: &mut F, error: &Packet) -> Option<(usize, u8)> {
    // The balancer writes outer headers without options.
    let at = error.transport() + Icmp::LEN + if error.is_ipv6() { Ipv6::LEN } else { Ipv4::LEN };
    match error.destination.protocol() {
        PROTOCOL_IPIP => Some((at, 4)),
        PROTOCOL_IPV6 => Some((at, 6)),
        PROTOCOL_UDP => {
            let at = at + Udp::LEN;
            let gue = within::<F, Gue>(frame, error, at)?;
            // The version of an IP packet stands where a GUE header has its own (variants 1 and 0).
            match (gue.variant_length, gue.protocol) {
                (0, PROTOCOL_IPIP) => Some((at + Gue::LEN, 4)),
                (0, PROTOCOL_IPV6) => Some((at + Gue::LEN, 6)),
                (first, _) => Some((at, first >> 4)),
            }
        }
        _ => None,
    }
}

/// The flow of the inner packet: its service's key, source and ports. Nothing where too little is quoted: what can't be
/// checked is not believed.
#[inline(always)]
fn flow<F: Frame>(frame: &mut F, error: &Packet, at: usize, family: u8) -> Option<(ServiceKey, [u32; 4], u32)> {
    let (source, destination, protocol, header) = if family == 4 {
        let ip = within::<F, Ipv4>(frame, error, at)?;
        ([ip.source, 0, 0, 0], [ip.destination, 0, 0, 0], ip.protocol, ip.header_length())
    } else {
        let ip = within::<F, Ipv6>(frame, error, at)?;
        (ip.source, ip.destination, ip.next_header, Ipv6::LEN)
    };
    if !is_transport(protocol) {
        return None;
    }
    let quoted = within::<F, Ports>(frame, error, at + header)?;
    let both = ports(quoted.source, quoted.destination);
    Some((ServiceKey::new(destination, (both >> 16) as u16, protocol, family), source, both))
}
