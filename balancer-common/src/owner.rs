//! Which of a slot's owners a flow belongs to.
//!
//! A closed slot has one owner and that is all. In an open one, flows that began before its owner changed stay with the
//! settled owner, and those that began since are in the service's flow table. The same holds for every slot of a service
//! whose seed, affinity or table size changed, with the former mapping in the place of the settled owner.

use crate::clock;
use crate::hash;
use crate::layout::{FlowEntry, FlowKey, ServiceEntry, flags, forward};
use crate::parse::{Packet, Role, View};
use crate::slot::{BackendIndex, NO_BACKEND, Slot};
use crate::steps::Steps;
use crate::tables::Tables;
use crate::verdict::{Event, Reason};

/// The backend for a packet whose flow hashes to slot `place`; it may be [`NO_BACKEND`].
#[inline(always)]
pub(crate) fn of<T: Steps, V: View>(
    tables: &T,
    service: &ServiceEntry,
    packet: &V,
    place: u32,
) -> Result<BackendIndex, Reason> {
    let slot = tables.slot(service.table, place).ok_or(Reason::NoBackend)?;
    if !slot.is_open() && !service.has(flags::FORMER | flags::TRACK_ALL) {
        return Ok(slot.owner());
    }
    let index = packet.whole(|packet| tables.owner_in_open(service, packet, place, slot));
    if index == REFUSED { Err(Reason::FlowTableFull) } else { Ok(index) }
}

/// The backend of a flow in an open slot, or [`REFUSED`].
#[inline(always)]
pub fn in_open<T: Tables>(tables: &T, service: &ServiceEntry, packet: &Packet, place: u32, slot: Slot) -> BackendIndex {
    let now = tables.now();
    let index = known(tables, service, packet, &Open { place, slot, now });
    if index != slot.owner() && index != REFUSED {
        tables.strayed(service.number, place, now);
    }
    index
}

/// No index: the flow table is full and the service refuses what it can't remember. A number and not an error, of which
/// the compiler copies parts that nothing wrote.
pub const REFUSED: BackendIndex = BackendIndex::MAX;

/// An open slot.
struct Open {
    place: u32,
    slot: Slot,
    now: u32,
}

#[inline(always)]
fn known<T: Tables>(tables: &T, service: &ServiceEntry, packet: &Packet, open: &Open) -> BackendIndex {
    let (to, is_ipv6) = (packet.destination.address(), packet.is_ipv6());
    let key = hash::identity(&tables.identity_keys(), is_ipv6, &packet.source(), &to, packet.ports());
    let owner = open.slot.owner();
    if let Some(mut flow) = tables.flow(service.number, key) {
        // Ports are used again: a SYN after more than a SYN is another connection.
        let another = packet.role == Role::Opening && flow.is_confirmed();
        if !another && takes_packets(tables, flow.backend()) {
            if packet.role == Role::Opening {
                tables.tally(service.number, Event::SynRepeated);
            }
            if packet.role != Role::Error {
                flow.touch(packet.role != Role::Opening, open.now);
            }
            return flow.backend();
        }
        if owner == NO_BACKEND {
            return NO_BACKEND;
        }
        if packet.role != Role::Error {
            *flow = begun(service, open, owner);
        }
        return owner;
    }
    unknown(tables, service, packet, open, key)
}

#[inline(always)]
fn begun(service: &ServiceEntry, open: &Open, backend: BackendIndex) -> FlowEntry {
    FlowEntry::begun(backend, open.place, service.era, open.now)
}

/// A flow that is not in the flow table.
#[inline(always)]
fn unknown<T: Tables>(tables: &T, service: &ServiceEntry, packet: &Packet, open: &Open, key: FlowKey) -> BackendIndex {
    let owner = open.slot.owner();
    let former = by_former(tables, service, packet, open.slot);
    let settled = if former == NO_BACKEND { settled(tables, open.slot) } else { former };
    let from_before = match packet.role {
        Role::Within | Role::Error => true,
        Role::Opening => false,
        Role::Datagram => {
            service.has(flags::WINDOW) && {
                let age = clock::since(open.now, tables.opened(service.number, open.place));
                age < u32::from(service.window)
            }
        }
    };
    if from_before && settled != NO_BACKEND {
        if packet.role == Role::Datagram {
            // After the window it must be known. Where the table is full it stays with the settled owner all the same.
            tables.remember(service.number, key, &begun(service, open, settled).confirmed());
        }
        return settled;
    }
    if from_before || owner == NO_BACKEND {
        return owner;
    }
    // What misses goes to the settled owner: only who goes elsewhere must be known. Where there is a former mapping, that is
    // what it says: this one's slots may change their places before the former's flows have ended.
    let missing = if service.has(flags::FORMER) { former } else { settled };
    if owner == missing && !service.has(flags::TRACK_ALL) {
        return owner;
    }
    if tables.remember(service.number, key, &begun(service, open, owner)) {
        return owner;
    }
    tables.tally(service.number, Event::FlowTableFull);
    if service.has(flags::DROP_WHEN_FULL) {
        return REFUSED;
    }
    if settled == NO_BACKEND || service.has(flags::TRACK_ALL) { owner } else { settled }
}

/// Who has the flows that began before the slot's owner changed; nobody where that backend went. Where the former mapping's
/// backend died, flows that met a full table are with this one, too.
#[inline(always)]
fn settled<T: Tables>(tables: &T, slot: Slot) -> BackendIndex {
    if lives(tables, slot, slot.settled()) { slot.settled() } else { NO_BACKEND }
}

/// Who has the flows of the former mapping; nobody where there is none, or that backend went.
#[inline(always)]
fn by_former<T: Tables>(tables: &T, service: &ServiceEntry, packet: &Packet, slot: Slot) -> BackendIndex {
    if !service.has(flags::FORMER) {
        return NO_BACKEND;
    }
    let index = former(tables, service.number, packet);
    if index != NO_BACKEND && lives(tables, slot, index) { index } else { NO_BACKEND }
}

#[inline(always)]
fn lives<T: Tables>(tables: &T, slot: Slot, index: BackendIndex) -> bool {
    index == slot.owner() || takes_packets(tables, index)
}

#[inline(always)]
fn former<T: Tables>(tables: &T, number: u16, packet: &Packet) -> BackendIndex {
    let Some(former) = tables.former(number) else { return NO_BACKEND };
    let ports = packet.ports() & former.port_mask;
    let hash = hash::of_flow(&former.keys, packet.is_ipv6(), &packet.source(), ports);
    let slot = tables.slot(former.table, hash::slot(hash, former.table_size));
    slot.map_or(NO_BACKEND, Slot::settled)
}

#[inline(always)]
pub fn takes_packets<T: Tables>(tables: &T, index: BackendIndex) -> bool {
    index != NO_BACKEND && tables.backend(index).is_some_and(|backend| backend.forward != forward::NONE)
}
