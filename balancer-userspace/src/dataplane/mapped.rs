//! An array map as memory: written and read without a system call an entry.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, slice};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of a `BPF_F_MMAPABLE` array, as words.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<u64>,
    words: usize,
    bytes: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process and no thread; every access goes through `&self` or `&mut self`.
unsafe impl Send for Mapped {}
// SAFETY: as above; what is shared is read and written in atomic words.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The first `words` words of a map.
    pub(super) fn new(map: impl AsFd, words: usize) -> io::Result<Self> {
        let page = 4096;
        let bytes = (words * size_of::<u64>()).next_multiple_of(page).max(page);
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice; the kernel refuses a length beyond the map.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { start: start.cast(), words, bytes })
    }

    /// Words that the program may be reading, or writing, at this moment.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is at least `words` words long, page aligned and lives as long as `self`; atomics may be
        // shared with whoever else maps the same memory.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.words) }
    }

    pub(super) fn get(&self, place: usize) -> Option<u64> {
        Some(self.words().get(place)?.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, place: usize, value: u64) {
        if let Some(word) = self.words().get(place) {
            word.store(value, Ordering::Release);
        }
    }

    /// Writes `values` from `place` on.
    pub(super) fn write(&self, place: usize, values: &[u64]) {
        for (word, value) in self.words().iter().skip(place).zip(values) {
            word.store(*value, Ordering::Release);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `new` made.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
