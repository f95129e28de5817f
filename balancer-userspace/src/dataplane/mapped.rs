//! A table's map as memory: written and read without a system call a slot.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::{io, slice};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of a `BPF_F_MMAPABLE` array of `u64`.
pub(super) struct Mapped {
    start: NonNull<u64>,
    values: usize,
    bytes: NonZeroUsize,
}

impl Mapped {
    pub(super) fn new(map: impl AsFd, values: u32) -> io::Result<Self> {
        let page = 4096;
        let bytes = (values as usize * size_of::<u64>()).next_multiple_of(page).max(page);
        let bytes = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice; the kernel refuses a length beyond the map.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { start: start.cast(), values: values as usize, bytes })
    }

    pub(super) fn values(&self) -> &[u64] {
        // SAFETY: the mapping is at least `values` words long, page aligned and lives as long as `self`. The program
        // only reads tables, and this process writes one only before it is published, through `values_mut`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.values) }
    }

    pub(super) fn values_mut(&mut self) -> &mut [u64] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.values) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `new` made.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
