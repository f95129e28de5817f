//! Token buckets that all processors share.

use core::arch::asm;

use balancer_common::guard;
use balancer_common::layout::Bucket;

/// How often a bucket that others take from at the same moment is tried; after that the packet is let in.
const TRIES: usize = 4;

/// Takes a token at `now`; false where the bucket is empty. Times in nanoseconds.
#[inline(always)]
pub fn take(bucket: *mut Bucket, now: u64, interval: u64, depth: u64) -> bool {
    for _ in 0..TRIES {
        // SAFETY: an aligned word in a map value.
        let before = unsafe { bucket.read_volatile() };
        let Some(after) = guard::take(before, now, interval, depth) else { return false };
        // SAFETY: as above.
        if unsafe { compare_exchange(bucket, before, after) } == before {
            return true;
        }
    }
    true
}

/// What stood there; `new` stands there now if that was `expected`. The compiler has no such intrinsic for this target.
///
/// # Safety
/// `word` is an aligned word in a map value.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, expected: u64, new: u64) -> u64 {
    let mut found = expected;
    // SAFETY: the instruction reads and writes that word only, and takes and answers in r0.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") found,
            options(nostack)
        );
    }
    found
}
