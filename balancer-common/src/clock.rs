//! Coarse time, as the kernel's CLOCK_MONOTONIC_COARSE has it: reading it costs 2 ns, where the fine clock costs 26.

/// Nanoseconds to units of 2^30 ns, about 1.07 s.
pub const UNIT_SHIFT: u32 = 30;

/// Units of a time in nanoseconds. Wraps after 146 years.
#[inline(always)]
pub const fn units(ns: u64) -> u32 {
    (ns >> UNIT_SHIFT) as u32
}

/// How long ago `then` was; 0 where it lies ahead (clocks of other processors may).
#[inline(always)]
pub const fn since(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > u32::MAX / 2 { 0 } else { age }
}
