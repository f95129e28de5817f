//! Which service a packet is for: one on its address and port, else one on a range of ports, else one on a prefix. The
//! narrowest wins: a single port over a range, a range over all ports, an address over a prefix, a longer prefix over a
//! shorter.

use crate::layout::{Kind, LpmKey, ServiceKey, gates};
use crate::tables::Tables;

/// Ranges of ports that an address can have.
pub const MOST_RANGES: u32 = 32;

#[inline(always)]
pub fn service<T: Tables>(tables: &T, key: &ServiceKey) -> Option<T::Service> {
    if let Some(service) = tables.entry(key) {
        return Some(service);
    }
    let gates = tables.gates();
    if gates & gates::RANGES != 0
        && let Some(address) = tables.entry(&key.address_only())
    {
        let (first, count) = address.ranges();
        if count != 0
            && let Some(service) = on_range(tables, key, first, count)
        {
            return Some(service);
        }
    }
    if gates & gates::PREFIXES != 0 { on_prefix(tables, key) } else { None }
}

/// Ranges are in the order in which they win.
#[inline(always)]
fn on_range<T: Tables>(tables: &T, key: &ServiceKey, first: u32, count: u32) -> Option<T::Service> {
    let port = u16::from_be(key.port());
    let mut lowest = None;
    for place in 0..MOST_RANGES {
        if place >= count {
            break;
        }
        let range = tables.range(first + place)?;
        if range.protocol == key.protocol() && range.low <= port && port <= range.high {
            lowest = Some(range.low);
            break;
        }
    }
    tables.entry(&key.with_port(lowest?.to_be()).with_kind(Kind::Range))
}

#[inline(always)]
fn on_prefix<T: Tables>(tables: &T, key: &ServiceKey) -> Option<T::Service> {
    let (address, protocol, family) = (key.address(), key.protocol(), key.family());
    match tables.prefix(&LpmKey::service(key.port(), protocol, family, address)) {
        Some(service) => Some(service),
        None => tables.prefix(&LpmKey::service(0, protocol, family, address)),
    }
}

/// Whether any service is on the key's address.
#[inline(always)]
pub fn is_vip<T: Tables>(tables: &T, key: &ServiceKey) -> bool {
    if tables.entry(&key.address_only()).is_some() {
        return true;
    }
    tables.gates() & gates::PREFIXES != 0
        && tables.prefix(&LpmKey::service(0, 0, key.family(), key.address())).is_some()
}
