//! The flow hash: what selects a slot, and what varies the outer source of an encapsulated packet.
//!
//! Two rounds of a 64-bit permutation (the finaliser of MurmurHash3, A. Appleby) with a secret key before each, so
//! that who doesn't know the key can't aim at a backend. The keys are drawn for each service from the node's seed and
//! the service's address, port and protocol; with the client's address and both ports as input the hash is one of
//! the whole 5-tuple.

/// Two keys of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct HashKeys {
    pub first: u64,
    pub second: u64,
}

#[inline(always)]
fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// `source` is the client's IPv4 address and `ports` the source port (low half) and destination port (high half), each
/// as it lies in the packet; `ports` is 0 under client affinity.
#[inline(always)]
pub fn ipv4(keys: &HashKeys, source: u32, ports: u32) -> u64 {
    mix(mix((u64::from(source) | (u64::from(ports) << 32)) ^ keys.first) ^ keys.second)
}

/// As [`ipv4`], for an IPv6 address.
#[inline(always)]
pub fn ipv6(keys: &HashKeys, source: &[u32; 4], ports: u32) -> u64 {
    let high = u64::from(source[0]) | (u64::from(source[1]) << 32);
    let low = u64::from(source[2]) | (u64::from(source[3]) << 32);
    mix(mix(mix(high ^ keys.first) ^ low) ^ u64::from(ports) ^ keys.second)
}

/// The flow hash, for either family.
#[inline(always)]
pub fn of_flow(keys: &HashKeys, is_ipv6: bool, source: &[u32; 4], ports: u32) -> u64 {
    if is_ipv6 { ipv6(keys, source, ports) } else { ipv4(keys, source[0], ports) }
}

/// Who a flow is, whatever selects its slot: both addresses and both ports under keys that never change in the life of
/// the maps. Two flows of one service have the same with a chance of 2^-64.
#[inline(always)]
pub fn identity(keys: &[u64; 2], is_ipv6: bool, source: &[u32; 4], destination: &[u32; 4], ports: u32) -> u64 {
    let word = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    let h = mix(word(source[0], ports) ^ keys[0]);
    let h = mix(h ^ word(destination[0], source[1]) ^ keys[1]);
    // Of IPv4 addresses the rest is 0.
    if !is_ipv6 {
        return h;
    }
    let h = mix(h ^ word(source[2], source[3]));
    let h = mix(h ^ word(destination[2], destination[3]));
    mix(h ^ u64::from(destination[1]))
}

/// The slot of a hash: its upper half scaled to the table's size (a multiplication where a remainder would divide).
#[inline(always)]
pub fn slot(hash: u64, table_size: u32) -> u32 {
    (((hash >> 32) * u64::from(table_size)) >> 32) as u32
}

/// The bits of a hash that don't select the slot.
#[inline(always)]
pub fn entropy(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: HashKeys = HashKeys { first: 0x0123_4567_89ab_cdef, second: 0xfedc_ba98_7654_3210 };

    /// Two balancers of different versions must agree, so the function is pinned.
    #[test]
    fn is_the_same_in_every_version() {
        assert_eq!(ipv4(&KEYS, 0x0100_000a, 0x5000_3930), 4_029_904_119_153_516_249);
        assert_eq!(ipv6(&KEYS, &[1, 2, 3, 4], 0x5000_3930), 15_399_717_871_202_418_058);
    }

    /// A flow table outlives the version that wrote it.
    #[test]
    fn identities_are_the_same_in_every_version_and_depend_on_every_word() {
        let keys = [KEYS.first, KEYS.second];
        let six = |words: [u32; 9]| {
            let [a, b, c, d, e, f, g, h, ports] = words;
            identity(&keys, true, &[a, b, c, d], &[e, f, g, h], ports)
        };
        let of = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        assert_eq!(identity(&keys, false, &[1, 0, 0, 0], &[2, 0, 0, 0], 3), 17_317_226_927_302_638_852);
        assert_eq!(six(of), 937_809_603_124_042_042);
        for place in 0..of.len() {
            let mut other = of;
            other[place] ^= 0x8000_0000;
            assert_ne!(six(other), six(of), "word {place}");
        }
    }

    #[test]
    fn spreads_consecutive_ports_evenly_over_slots() {
        let (flows, slots) = (200_000u32, 101u32);
        let mut counts = [0u32; 101];
        for flow in 0..flows {
            let h = ipv4(&KEYS, 0x0100_000a + (flow >> 16), flow & 0xffff);
            counts[slot(h, slots) as usize] += 1;
        }
        let expected = f64::from(flows) / f64::from(slots);
        let chi_square: f64 = counts.iter().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum();
        // 100 degrees of freedom: 149.4 is the 99.9 % quantile.
        assert!(chi_square < 149.4, "{chi_square}");
    }

    #[test]
    fn every_slot_of_the_largest_table_is_in_range() {
        assert_eq!(slot(u64::MAX, 1_048_573), 1_048_572);
        assert_eq!(slot(0, 1_048_573), 0);
    }
}
