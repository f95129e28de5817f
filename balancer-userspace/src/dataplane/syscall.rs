//! Commands of bpf(2) that aya 0.14 does not offer: maps read and written in batches (one system call for thousands of
//! entries, one grace period for all updates of a map of maps), and links detached at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info};

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: `attr` is a whole `bpf_attr` whose pointers the callers keep alive and large enough for `count`.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<bpf_attr>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as RawFd) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of integers.
    unsafe { std::mem::zeroed() }
}

/// Values of the first `values.len() / value_size` entries of an array map, each `value_size` bytes (of a per-CPU array:
/// times the possible CPUs).
pub(super) fn read_array(map: BorrowedFd<'_>, entries: u32, values: &mut [u64]) -> io::Result<()> {
    if entries == 0 {
        return Ok(());
    }
    let words = values.len() / entries as usize;
    let mut keys = vec![0u32; entries as usize];
    let (mut done, mut cursor, mut started) = (0u32, 0u32, false);
    while done < entries {
        let mut attr = zeroed();
        let mut next = 0u32;
        // SAFETY: the `batch` member is the one these commands read.
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = map.as_raw_fd() as u32;
        batch.in_batch = if started { (&raw const cursor) as u64 } else { 0 };
        batch.out_batch = (&raw mut next) as u64;
        batch.keys = keys[done as usize..].as_mut_ptr() as u64;
        batch.values = values[done as usize * words..].as_mut_ptr() as u64;
        batch.count = entries - done;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        // SAFETY: as above.
        let count = unsafe { attr.batch.count };
        done += count;
        match result {
            Ok(_) if count > 0 => (cursor, started) = (next, true),
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            // ENOENT says that the end of the map is reached.
            _ => break,
        }
    }
    Ok(())
}

/// The first value of an array map, `bytes` long, as words.
pub(super) fn read_first(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Vec<u64>> {
    let mut value = vec![0u64; bytes.div_ceil(8)];
    let key = 0u32;
    let mut attr = element(map, &key);
    // SAFETY: the member that this command reads; the value is as long as the map's.
    unsafe { &mut attr.__bindgen_anon_2 }.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Keys and values of a hash map of words; at most `entries` of them.
pub(super) fn read_hash(map: BorrowedFd<'_>, entries: u32) -> io::Result<Vec<(u64, u64)>> {
    /// More than any bucket of the kernel's hash holds.
    const BATCH: usize = 16_384;
    let mut all = Vec::new();
    let (mut keys, mut values) = (vec![0u64; BATCH], vec![0u64; BATCH]);
    // The cursor is the kernel's and as wide as a key at most.
    let (mut cursor, mut started) = (0u64, false);
    while all.len() <= entries as usize {
        let mut attr = zeroed();
        let mut next = 0u64;
        // SAFETY: the `batch` member is the one these commands read.
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = map.as_raw_fd() as u32;
        batch.in_batch = if started { (&raw const cursor) as u64 } else { 0 };
        batch.out_batch = (&raw mut next) as u64;
        batch.keys = keys.as_mut_ptr() as u64;
        batch.values = values.as_mut_ptr() as u64;
        batch.count = BATCH as u32;
        let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
        // SAFETY: as above.
        let count = unsafe { attr.batch.count } as usize;
        match &result {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return result.map(|_| all),
            _ => {}
        }
        all.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        // ENOENT says that the end of the map is reached.
        if result.is_err() {
            break;
        }
        (cursor, started) = (next, true);
    }
    Ok(all)
}

/// Removes `keys` from a hash map of words; those that are gone already are fine.
pub(super) fn delete_batch(map: BorrowedFd<'_>, keys: &[u64]) -> io::Result<()> {
    let mut left = keys;
    while !left.is_empty() {
        let mut attr = zeroed();
        // SAFETY: the `batch` member is the one this command reads.
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = map.as_raw_fd() as u32;
        batch.keys = left.as_ptr() as u64;
        batch.count = left.len() as u32;
        let result = bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attr);
        // SAFETY: as above.
        let done = unsafe { attr.batch.count } as usize;
        match result {
            Ok(_) => return Ok(()),
            // It stops at a key that is not there.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => left = left.get(done + 1..).unwrap_or(&[]),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The value at `key` of a hash map of words.
pub(super) fn look_up_value(map: BorrowedFd<'_>, key: &u64) -> io::Result<u64> {
    let mut value = 0u64;
    let mut attr = zeroed();
    // SAFETY: the member that the commands for one element read.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = (&raw const *key) as u64;
    element.__bindgen_anon_1.value = (&raw mut value) as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Sets `values[i]` at `keys[i]`: indices and file descriptors of a map of maps.
pub(super) fn update(map: BorrowedFd<'_>, keys: &[u32], values: &[u32]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut attr = zeroed();
    // SAFETY: the `batch` member is the one this command reads.
    let batch = unsafe { &mut attr.batch };
    batch.map_fd = map.as_raw_fd() as u32;
    batch.keys = keys.as_ptr() as u64;
    batch.values = values.as_ptr() as u64;
    batch.count = keys.len().min(values.len()) as u32;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// The value at `key` of a map of maps: the identifier of the inner map.
pub(super) fn look_up(map: BorrowedFd<'_>, key: u32) -> io::Result<u32> {
    let mut value = 0u32;
    let mut attr = element(map, &key);
    // SAFETY: the member that this command reads.
    unsafe { &mut attr.__bindgen_anon_2 }.__bindgen_anon_1.value = (&raw mut value) as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Removes the inner map at `key` and waits for its last reader.
pub(super) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut element(map, &key)).map(drop)
}

fn element(map: BorrowedFd<'_>, key: &u32) -> bpf_attr {
    let mut attr = zeroed();
    // SAFETY: the member that the commands for one element read.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = (&raw const *key) as u64;
    attr
}

fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: the member that this command reads.
    unsafe { &mut attr.__bindgen_anon_4 }.pathname = name.as_ptr() as u64;
    let object = bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(object) })
}

/// Takes the program of the link pinned at `path` off its interface, now: the kernel does so at its leisure when the last
/// reference goes.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let link = open_pinned(path)?;
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Of the XDP link pinned at `path`: the program's number, and the interface's, which is 0 once the link is off it.
pub(super) fn xdp_link(path: &Path) -> io::Result<(u32, u32)> {
    let link = open_pinned(path)?;
    // SAFETY: integers and unions of integers.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = link.as_raw_fd() as u32;
    attr.info.info = (&raw mut info) as u64;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: the member that XDP links fill.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok((info.prog_id, ifindex))
}
