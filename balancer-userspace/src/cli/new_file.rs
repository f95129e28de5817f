//! A config that is written for the first time: nothing is ever overwritten.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Readable by its owner and group only, for the seed in it. Where a file is there, `instead` says what else to do.
pub(super) fn write(file: &Path, text: &str, instead: &str) -> Result<()> {
    let mut new = match OpenOptions::new().write(true).create_new(true).mode(0o640).open(file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already and stays as it is; {instead}", file.display())
        }
        opened => opened.with_context(|| format!("writing {}", file.display()))?,
    };
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).with_context(|| format!("writing {}", file.display()))
}
