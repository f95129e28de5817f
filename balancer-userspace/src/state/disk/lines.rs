//! A file of lines, each a JSON document: what is added to it costs what is added, not what is there.

use std::fs::File as OnDisk;
use std::io::{Error, Result as IoResult, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Disk, File, Held};

impl Disk {
    /// Its lines. A last one that does not end was cut off by a crash, and nobody was told that it is there. Earlier versions
    /// wrote one JSON list.
    pub(in crate::state) fn read_lines<T: DeserializeOwned>(&self, file: File) -> Vec<T> {
        self.read_with(file, |bytes| {
            if bytes.trim_ascii_start().starts_with(b"[") {
                return serde_json::from_slice(bytes);
            }
            // The first line is never appended.
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
            let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let lines: Vec<T> = lines.map(serde_json::from_slice).collect::<serde_json::Result<_>>()?;
            if whole == bytes.len() && !lines.is_empty() {
                let held = || Held { bytes: bytes.to_vec(), durable: file.durable, is_written: true };
                self.known().held.entry(file.name).or_insert_with(held);
            }
            Ok(lines)
        })
    }

    /// All lines on disk, or nothing has changed.
    pub(in crate::state) fn save_lines<T: Serialize>(&self, file: File, values: &[T]) -> Result<()> {
        let mut bytes = Vec::new();
        for value in values {
            serde_json::to_writer(&mut bytes, value)?;
            bytes.push(b'\n');
        }
        self.save_bytes(file, bytes)
    }

    /// One more line on disk, or nothing has changed. Answers `false` where the file must be written whole: it does not end with a
    /// whole line, or is not as it was left.
    pub(in crate::state) fn append_line<T: Serialize>(&self, file: File, value: &T) -> Result<bool> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let path = self.path.join(file.name);
        let mut known = self.known();
        let Some(held) = known.held.get_mut(file.name).filter(|held| held.is_written) else { return Ok(false) };
        let Some(open) = as_written(&path, held) else { return Ok(false) };
        match append(&open, &line) {
            Ok(()) => held.bytes.extend_from_slice(&line),
            Err(error) => {
                // A half line is cut off; where that fails too, the next attempt writes the whole file.
                held.is_written = open.set_len(held.bytes.len() as u64).is_ok();
                drop(known);
                self.noted(Err(error)).with_context(|| format!("writing {}", path.display()))?;
            }
        }
        Ok(true)
    }
}

/// The file, ready to be appended to, where it is as long as it was left.
fn as_written(path: &Path, held: &Held) -> Option<OnDisk> {
    let open = OnDisk::options().append(true).open(path).ok()?;
    let is_same = open.metadata().is_ok_and(|about| about.is_file() && about.len() == held.bytes.len() as u64);
    is_same.then_some(open)
}

fn append(mut open: &OnDisk, line: &[u8]) -> IoResult<()> {
    // In one piece: a reader finds the line or does not.
    let written = open.write(line)?;
    if written < line.len() {
        return Err(Error::from_raw_os_error(libc::ENOSPC));
    }
    open.sync_data()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::HISTORY;

    fn lines(disk: &Disk) -> Vec<u32> {
        disk.read_lines(HISTORY)
    }

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        assert!(!disk.append_line(HISTORY, &1).unwrap(), "there is no file");
        disk.save_lines(HISTORY, &[1, 2]).unwrap();
        let inode =
            || std::os::unix::fs::MetadataExt::ino(&fs::metadata(directory.path().join("history.json")).unwrap());
        let before = inode();
        assert!(disk.append_line(HISTORY, &3).unwrap());
        assert_eq!((lines(&disk), inode()), (vec![1, 2, 3], before));
        let disk = Disk::open(directory.path()).unwrap();
        assert_eq!(lines(&disk), [1, 2, 3]);
        assert!(disk.append_line(HISTORY, &4).unwrap(), "also after a start");
        assert_eq!((lines(&disk), inode()), (vec![1, 2, 3, 4], before));
        // What somebody removed is there again, whole.
        fs::remove_file(directory.path().join("history.json")).unwrap();
        assert!(!disk.append_line(HISTORY, &5).unwrap());
        disk.look_after(std::time::Instant::now());
        assert_eq!(lines(&disk), [1, 2, 3, 4]);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_not_there_and_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.json");
        let disk = Disk::open(directory.path()).unwrap();
        disk.save_lines(HISTORY, &[1, 2]).unwrap();
        for cut in ["1\n2\n3", "1\n2\n{\"a\":", "1\n2\n\0\0\0"] {
            fs::write(&path, cut).unwrap();
            let disk = Disk::open(directory.path()).unwrap();
            assert_eq!(lines(&disk), [1, 2], "{cut:?}");
            assert!(!disk.append_line(HISTORY, &3).unwrap());
            assert_eq!(disk.damaged(), Vec::<String>::new());
        }
        // In the middle it is damage.
        fs::write(&path, "1\n{\n3\n").unwrap();
        assert_eq!((lines(&disk), disk.damaged().len()), (vec![], 1));
    }

    #[test]
    fn a_list_as_earlier_versions_wrote_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("history.json"), "[1,2,3]").unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        assert_eq!(lines(&disk), [1, 2, 3]);
        disk.save_lines(HISTORY, &[1, 2, 3, 4]).unwrap();
        assert_eq!(lines(&Disk::open(directory.path()).unwrap()), [1, 2, 3, 4]);
    }
}
