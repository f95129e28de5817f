//! A value that the compiler knows nothing about, so that a check of it stays a check of the very register that is used.

use core::arch::asm;

#[inline(always)]
pub fn opaque(mut value: u32) -> u32 {
    // SAFETY: a move of a register to itself; an empty string would repeat line information, which the kernel refuses.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}
