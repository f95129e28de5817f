//! Reading a regular file that somebody named: what is something else is an error and not a wait without end, and what is
//! too large is not read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Why a file can't be read, as the end of a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("can't be read: {0}")]
    Failed(String),
    #[error("is {0}, not a regular file")]
    Other(&'static str),
    #[error("is not there, or can't be read with the rights of uid {0}, who asks for it")]
    Denied(u32),
    #[error("is larger than {0} MiB")]
    TooLarge(u64),
    #[error("is not UTF-8 text: line {line}, byte {byte} of it is 0x{value:02x}")]
    NoText {
        /// From 1.
        line: usize,
        /// Within the line, from 1.
        byte: usize,
        value: u8,
    },
}

/// The bytes of the regular file at `path`, at most `most` of them. Never waits for a writer.
///
/// # Errors
/// Where it is no regular file, can't be read or is larger.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    let failed = |error: std::io::Error| Unreadable::Failed(error.to_string());
    // To open some devices is to act on them.
    check(&fs::metadata(path).map_err(failed)?)?;
    // What took its place since then must not hold this up either.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    check(&about)?;
    let mut read = Vec::with_capacity(usize::try_from(about.len().min(most)).unwrap_or(0));
    file.take(most.saturating_add(1)).read_to_end(&mut read).map_err(failed)?;
    if read.len() as u64 > most { Err(Unreadable::TooLarge(most >> 20)) } else { Ok(read) }
}

/// The same as text.
///
/// # Errors
/// As [`bytes()`], and where it is no UTF-8, with the place of the first byte that is not.
pub fn text(path: &Path, most: u64) -> Result<String, Unreadable> {
    utf8(bytes(path, most)?)
}

pub(crate) fn utf8(bytes: Vec<u8>) -> Result<String, Unreadable> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let read = error.as_bytes();
        let before = read.get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let byte = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Unreadable::NoText { line, byte, value: read.get(at).copied().unwrap_or(0) }
    })
}

fn check(about: &fs::Metadata) -> Result<(), Unreadable> {
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(Unreadable::Other(match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, socket) = (directory.path().join("pipe"), directory.path().join("socket"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        let said = |path: &Path| bytes(path, 1 << 20).unwrap_err().to_string();
        assert_eq!(said(&pipe), "is a named pipe, not a regular file");
        assert_eq!(said(&socket), "is a socket, not a regular file");
        assert_eq!(said(directory.path()), "is a directory, not a regular file");
        assert_eq!(said(Path::new("/dev/zero")), "is a device, not a regular file");
        assert!(said(&directory.path().join("none")).starts_with("can't be read: No such file"));
    }

    #[test]
    fn what_is_too_large_or_no_text_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        assert_eq!(text(&path, 1 << 20), Err(Unreadable::TooLarge(1)));
        assert_eq!(text(&path, 2 << 20).map(|text| text.len()), Ok((1 << 20) + 1));
        fs::write(&path, b"[node]\nname = \"caf\xe9\"\n").unwrap();
        let error = text(&path, 1 << 20).unwrap_err();
        assert_eq!(error, Unreadable::NoText { line: 2, byte: 12, value: 0xe9 });
        assert_eq!(error.to_string(), "is not UTF-8 text: line 2, byte 12 of it is 0xe9");
    }
}
