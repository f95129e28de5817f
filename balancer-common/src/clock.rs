//! The clock of slots and flows: a word that the controller raises by one about every second. The program reads it for
//! nothing, where the kernel's coarse clock costs 16 ns a packet. It stands still while no controller runs, so that what
//! is counted in it is never older than it says: nothing closes early because nobody looked.

/// At least this much time lies between two units, in milliseconds.
pub const UNIT_MS: u64 = 950;

/// How long ago `then` was; 0 where it lies ahead.
#[inline(always)]
pub const fn since(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > u32::MAX / 2 { 0 } else { age }
}
