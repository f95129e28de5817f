//! Services.

use super::key::ServiceKey;
use crate::hash::HashKeys;

/// Bits of [`ServiceEntry::flags`].
pub mod flags {
    /// Flows from before a change of seed, affinity or table size are still about: see [`super::Former`].
    pub const FORMER: u16 = 1;
    /// Every flow has an entry in the flow table.
    pub const TRACK_ALL: u16 = 2;
    /// For a while after a slot opened, flows that are not known count as older than that.
    pub const WINDOW: u16 = 4;
    /// New flows that find the flow table full are dropped, not given to the settled owner.
    pub const DROP_WHEN_FULL: u16 = 8;
    /// Packets with short headers go by the server id in their connection ID.
    pub const QUIC: u16 = 16;
    /// Sources are looked up in the lists of prefixes.
    pub const ACL: u16 = 32;
    /// Who is in no list is refused.
    pub const ACL_REFUSES_OTHERS: u16 = 64;
    /// New flows are limited, all together.
    pub const RATE: u16 = 128;
    /// New flows of each source are limited.
    pub const SOURCE_RATE: u16 = 256;
    /// Whatever is asked before the owner.
    pub const GUARDED: u16 = ACL | RATE | SOURCE_RATE;
}

/// A service, as far as it is no table. Entries of other kinds use the same words for what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceEntry {
    pub keys: HashKeys,
    /// Place of the service's table in the map of tables.
    pub table: u32,
    /// Slots of the table.
    pub table_size: u32,
    /// All ones where source and destination port take part in the hash, 0 under client affinity.
    pub port_mask: u32,
    /// Place of all that is the service's own and no table.
    pub number: u16,
    /// See [`flags`].
    pub flags: u16,
    /// Largest segment that SYNs may offer, in bytes; 0 leaves them alone.
    pub mss_clamp: u16,
    /// QUIC: configuration id in the high 3 bits, length of server ids in the low 5.
    pub quic: u8,
    /// Raised with every change of keys or table size: entries of the flow table name slots under one of them.
    pub era: u8,
    /// Seconds of the learning window.
    pub window: u16,
    /// Raised with every change of the lists of prefixes: which entries of them are in force.
    pub acl: u16,
}

impl ServiceEntry {
    /// An address that services are on, and its ranges of ports: places `first..first + count`.
    pub const fn address(first: u32, count: u32) -> Self {
        Self { table: first, table_size: count, ..Self::EMPTY }
    }

    /// First range and number of ranges of an address.
    #[inline(always)]
    pub const fn ranges(&self) -> (u32, u32) {
        (self.table, self.table_size)
    }

    /// What replaces the source of a reply: the service's address and port (network byte order). `mss_clamp` as above.
    pub const fn reply(address: [u32; 4], port: u16, mss_clamp: u16) -> Self {
        let words = ServiceKey::new(address, 0, 0, 0).words();
        let keys = HashKeys { first: words[0], second: words[1] };
        Self { keys, number: port, mss_clamp, ..Self::EMPTY }
    }

    #[inline(always)]
    pub const fn reply_address(&self) -> [u32; 4] {
        let (low, high) = (self.keys.first, self.keys.second);
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    /// In network byte order.
    #[inline(always)]
    pub const fn reply_port(&self) -> u16 {
        self.number
    }

    const EMPTY: Self = Self {
        keys: HashKeys { first: 0, second: 0 },
        table: 0,
        table_size: 0,
        port_mask: 0,
        number: 0,
        flags: 0,
        mss_clamp: 0,
        quic: 0,
        era: 0,
        window: 0,
        acl: 0,
    };

    #[inline(always)]
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
}

/// A line of the index: one cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct IndexEntry {
    pub key: ServiceKey,
    pub entry: ServiceEntry,
}

/// Ports of a service on several, in host byte order, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct PortRange {
    pub low: u16,
    pub high: u16,
    pub protocol: u8,
    pub _padding: [u8; 3],
}

/// How a service mapped flows to backends before its seed, affinity or table size changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Former {
    pub keys: HashKeys,
    pub table: u32,
    /// 0 where there is nothing former.
    pub table_size: u32,
    pub port_mask: u32,
    /// When it became former, in the units of [`crate::clock`].
    pub since: u32,
}

/// Per CPU; they only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceCounters {
    /// New flows that found the flow table full.
    pub flow_table_full: u64,
    /// QUIC packets whose connection ID names no backend.
    pub quic_unknown: u64,
    /// QUIC packets that went by their connection ID.
    pub quic_routed: u64,
    pub acl_refused: u64,
    pub rate_limited: u64,
    pub source_limited: u64,
    pub icmp_relayed: u64,
    pub too_big_answered: u64,
    /// SYNs of flows in the flow table that sent nothing else.
    pub syn_repeated: u64,
}
