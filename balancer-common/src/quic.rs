//! QUIC by connection ID (RFC 9000; draft-ietf-quic-load-balancers, unencrypted): a packet with a short header carries
//! the ID that the server chose: three bits that say which configuration it was made under, five that are the server's,
//! then the server id, then what the server likes. Long headers come in handshakes only and go by the flow.

use crate::frame::Frame;
use crate::headers::{Header, Udp};
use crate::layout::{ServerIdKey, ServiceEntry};
use crate::owner::takes_packets;
use crate::parse::{Packet, Role};
use crate::slot::BackendIndex;
use crate::tables::Tables;
use crate::verdict::Event;

/// The first byte and the beginning of the connection ID.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Short {
    first: u8,
    config: u8,
    id: u64,
}
// SAFETY: packed, integers only.
unsafe impl Header for Short {}

const LONG: u8 = 0x80;
/// An ID of this configuration was made by a server that had none (draft, section 3.1).
const UNROUTABLE: u8 = 7;

/// The backend that a packet names, where it names one that takes packets.
#[inline(always)]
pub fn backend<F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    service: &ServiceEntry,
    packet: &Packet,
) -> Option<BackendIndex> {
    if packet.role != Role::Datagram {
        return None;
    }
    let short = *frame.at::<Short>(packet.transport() + Udp::LEN)?;
    if short.first & LONG != 0 {
        return None;
    }
    let index = named(tables, service, short);
    let event = if index.is_some() { Event::QuicRouted } else { Event::QuicUnknown };
    tables.tally(service.number, event);
    index
}

#[inline(always)]
fn named<T: Tables>(tables: &T, service: &ServiceEntry, short: Short) -> Option<BackendIndex> {
    let config = short.config >> 5;
    if config == UNROUTABLE || config != service.quic >> 5 {
        return None;
    }
    let unused = 64 - 8 * u32::from(service.quic & 15);
    // The bytes of the id are the first in memory, whatever the byte order.
    let id = u64::from_le(short.id);
    let id = if unused >= 64 { 0 } else { id << unused >> unused };
    let index = tables.server_id(&ServerIdKey { service: u64::from(service.number), id })?;
    takes_packets(tables, index).then_some(index)
}
