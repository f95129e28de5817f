//! The index: where services, addresses and replies are looked up. A perfect hash that the controller has prepared: one
//! load finds the bucket's seed, one the only line where the key can be (hash and displace; Belazzougui, Botelho and
//! Dietzfelbinger, 2009). Both arrays hold two of everything; the controller fills the half that is not in force and
//! then switches with one word, so that a packet sees one whole index.

use crate::layout::ServiceKey;

/// Which half is in force and how large it is; the word [`crate::layout::Settings::index`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Where the half's lines begin.
    pub lines: u32,
    /// Where its seeds begin.
    pub seeds: u32,
    /// Lines less one; lines are a power of two.
    pub line_mask: u32,
    /// Seeds less one; seeds are a power of two.
    pub seed_mask: u32,
    /// Where its port ranges begin.
    pub ranges: u32,
}

/// Lines, seeds and port ranges of one half, as the maps were sized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    pub lines_log2: u32,
    pub ranges_log2: u32,
}

/// A seed for every so many lines.
pub const LINES_PER_SEED_LOG2: u32 = 2;

impl Capacity {
    pub const fn lines(&self) -> u32 {
        1 << self.lines_log2
    }

    pub const fn seeds(&self) -> u32 {
        1 << self.lines_log2.saturating_sub(LINES_PER_SEED_LOG2)
    }

    pub const fn ranges(&self) -> u32 {
        1 << self.ranges_log2
    }
}

impl Shape {
    /// The word for a half (0 or 1) of `lines_log2` lines. From the low end: lines, capacity in lines, capacity in ranges
    /// (logarithms, 8 bits each), and the half.
    pub const fn word(half: u32, lines_log2: u32, capacity: &Capacity) -> u64 {
        lines_log2 as u64
            | (capacity.lines_log2 as u64) << 8
            | (capacity.ranges_log2 as u64) << 16
            | (half as u64) << 24
    }

    #[inline(always)]
    pub const fn of(word: u64) -> Self {
        let half = (word >> 24) as u32 & 1;
        let lines_log2 = word as u32 & 31;
        let capacity = Capacity { lines_log2: (word >> 8) as u32 & 31, ranges_log2: (word >> 16) as u32 & 31 };
        Self {
            lines: half << capacity.lines_log2,
            seeds: half << capacity.lines_log2.saturating_sub(LINES_PER_SEED_LOG2),
            line_mask: (1 << lines_log2) - 1,
            seed_mask: (1 << lines_log2.saturating_sub(LINES_PER_SEED_LOG2)) - 1,
            ranges: half << capacity.ranges_log2,
        }
    }
}

/// The hash of a key. Keys are the operator's and no client's, so it need not be secret; the controller sees to it that
/// no two have the same.
#[inline(always)]
pub const fn hash(key: &ServiceKey) -> u64 {
    let [low, high, selector] = key.words();
    let mixed = low ^ high.wrapping_mul(0x9fb2_1c65_1e98_df25) ^ selector.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let h = mixed.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 32)
}

/// The place of the seed for a hash.
#[inline(always)]
pub const fn seed_place(shape: &Shape, hash: u64) -> u32 {
    shape.seeds + (hash as u32 & shape.seed_mask)
}

/// The only line where a key of this hash can be, given its bucket's seed.
#[inline(always)]
pub const fn line_place(shape: &Shape, hash: u64, seed: u64) -> u32 {
    let h = (hash ^ seed).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    shape.lines + ((h >> 32) as u32 & shape.line_mask)
}
