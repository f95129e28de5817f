//! Numbers that keep their bounds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an operator wrote for one backend; 0 takes no new flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    pub const ZERO: Self = Self(0);
    pub const MAX: u32 = 1_000_000;

    /// `None` above [`Weight::MAX`].
    pub fn new(value: u32) -> Option<Self> {
        (value <= Self::MAX).then_some(Self(value))
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of slots of a Maglev table: a prime between 2 and [`TableSize::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableSize(u32);

impl TableSize {
    /// The largest prime below 2^20.
    pub const MAX: u32 = 1_048_573;
    pub const DEFAULT: Self = Self(65_537);

    /// `None` unless `slots` is a prime up to [`TableSize::MAX`].
    pub fn new(slots: u32) -> Option<Self> {
        (slots <= Self::MAX && is_prime(slots)).then_some(Self(slots))
    }

    /// The smallest valid size that is at least `slots`, or the largest there is.
    pub fn at_least(slots: u32) -> Self {
        Self((slots..=Self::MAX).find(|n| is_prime(*n)).unwrap_or(Self::MAX))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// A part of a whole in thousandths, so that configurations compare exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction(u16);

impl Fraction {
    pub const HALF: Self = Self(500);
    pub const TENTH: Self = Self(100);

    /// `None` outside 0 to 1.
    pub fn new(fraction: f64) -> Option<Self> {
        (0.0..=1.0).contains(&fraction).then(|| Self((fraction * 1000.0).round() as u16))
    }

    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_sizes_are_primes_up_to_the_largest_below_a_mebi() {
        assert_eq!(TableSize::new(65_537), Some(TableSize::DEFAULT));
        assert!(TableSize::new(TableSize::MAX).is_some());
        assert_eq!(TableSize::new(65_536), None);
        assert_eq!(TableSize::new(1_048_583), None);
        assert_eq!(TableSize::at_least(65_530).get(), 65_537);
        assert_eq!(TableSize::at_least(u32::MAX).get(), TableSize::MAX);
    }
}
