//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//!
//! Sums are taken over words as they lie in memory: one's complement addition does not care about byte order as long
//! as the result is stored the same way (RFC 1071, 2.B).

use crate::headers::{Be16, Ipv4};

/// Folds a sum of 16-bit and 32-bit words into 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The folded sum of an IPv4 header without its options, checksum included: 0xffff where it is right.
#[inline(always)]
pub fn of_ipv4(ip: &Ipv4) -> u16 {
    let pair = |low: u8, high: u8| u64::from(u16::from_le_bytes([low, high]));
    fold(
        pair(ip.version_ihl, ip.tos)
            + u64::from(ip.total_length.0)
            + u64::from(ip.id.0)
            + u64::from(ip.flags_fragment.0)
            + pair(ip.ttl, ip.protocol)
            + u64::from(ip.checksum.0)
            + u64::from(ip.source)
            + u64::from(ip.destination),
    )
}

/// The same of a header that lies in memory: as the five words that it is.
#[inline(always)]
pub fn of_ipv4_words(ip: &Ipv4) -> u16 {
    // SAFETY: as long, and any bytes are valid words; read without alignment.
    let words = unsafe { (&raw const *ip).cast::<[u32; 5]>().read_unaligned() };
    fold(words.iter().map(|word| u64::from(*word)).sum())
}

/// A running difference between the old and the new words of a header.
#[derive(Clone, Copy, Default)]
pub struct Difference(u64);

impl Difference {
    /// Counts `old` replaced by `new`, both as they lie in memory, at an even offset.
    #[inline(always)]
    pub fn replace(self, old: u32, new: u32) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    #[inline(always)]
    pub fn replace16(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    #[inline(always)]
    pub fn replace_address(self, old: &[u32; 4], new: &[u32; 4]) -> Self {
        self.replace(old[0], new[0]).replace(old[1], new[1]).replace(old[2], new[2]).replace(old[3], new[3])
    }

    /// The checksum after the change: HC' = ~(~HC + ~m + m').
    #[inline(always)]
    pub fn apply(self, checksum: Be16) -> Be16 {
        Be16(!fold(u64::from(!checksum.0) + self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(words: &[u16]) -> Be16 {
        Be16(!fold(words.iter().map(|w| u64::from(*w)).sum()))
    }

    proptest! {
        #[test]
        fn incremental_equals_recomputed(mut words: [u16; 12], at in 0usize..11, new: u32) {
            // A header whose words are all zero has no non-zero checksum to update; real ones carry a version.
            words[0] |= 1;
            let before = full(&words);
            let old = u32::from(words[at]) | u32::from(words[at + 1]) << 16;
            words[at] = new as u16;
            words[at + 1] = (new >> 16) as u16;
            prop_assume!(words.iter().any(|w| *w != 0));
            prop_assert_eq!(Difference::default().replace(old, new).apply(before), full(&words));
        }
    }
}
