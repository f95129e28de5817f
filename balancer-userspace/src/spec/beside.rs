//! Files that a config names: where they are looked for, and with whose rights they are read.

use std::path::Path;

use crate::regular::{self, Unreadable};
use crate::rights::Rights;

#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// Where relative paths start.
    pub directory: &'a Path,
    /// Those of whoever sent the config; without, those of this process.
    pub rights: Option<&'a Rights>,
}

impl<'a> From<&'a Path> for Beside<'a> {
    fn from(directory: &'a Path) -> Self {
        Self { directory, rights: None }
    }
}

impl Beside<'_> {
    pub(super) fn text(&self, path: &Path, most: u64) -> Result<String, Unreadable> {
        match self.rights {
            Some(rights) => rights.text(path, most),
            None => regular::text(path, most),
        }
    }
}
