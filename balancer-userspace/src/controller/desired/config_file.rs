//! The config file on disk as the controller writes it. A file that is newer than what was read is never overwritten.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::controller::desired::Desired;
use crate::controller::refusal::Refusal;
use crate::history::digest;
use crate::state::{StagedFile, replace_file, stage_file};

/// What the config file holds, compared with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileIs {
    /// This text.
    Same,
    /// What was last read or written here, or nothing.
    Known,
    /// Something that was never read.
    Newer,
}

impl Desired {
    fn file_text(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.path.display())),
        }
    }

    pub(crate) fn file_is(&self, wanted: &str) -> Result<FileIs> {
        Ok(file_is(self.file_text()?.as_deref(), wanted, &self.seen))
    }

    pub(crate) fn file_holds(&self, text: &str) -> bool {
        self.file_text().is_ok_and(|there| there.as_deref() == Some(text))
    }

    /// Whoever applies something has not seen what the file holds by now.
    pub(crate) fn refuse_newer_file(&self, wanted: &str) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}; nothing was applied"));
        if self.file_is(wanted).map_err(failed)? != FileIs::Newer || self.file_holds(&self.text) {
            return Ok(());
        }
        let path = self.path.display();
        Err(Refusal::Invalid(format!(
            "{path} was changed since the controller last read it, and applying this would overwrite that; nothing was \
             applied. Look at `balancer plan {path}`, then `balancer reload`, or put back what the file held"
        )))
    }

    /// The config file as it is to be, all but in its place; none where it is so already.
    pub(crate) fn stage_config(&self) -> Result<Option<StagedFile>, Refusal> {
        if self.file_holds(&self.text) {
            return Ok(None);
        }
        let staged = stage_file(&self.path, &self.text);
        staged.map(Some).map_err(|error| Refusal::Failed(format!("{error:#}")))
    }

    /// `placed`: whether it is in its place, which it may be where only its directory could not be synced.
    pub(crate) fn put_config(&mut self, staged: StagedFile, placed: &mut bool) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        if self.file_is(&self.text).map_err(failed)? == FileIs::Newer {
            let path = self.path.display();
            return Err(Refusal::Invalid(format!("{path} was changed while this was applied; it was left as it is")));
        }
        let put = staged.put().map_err(failed);
        *placed = put.is_ok() || self.file_holds(&self.text);
        if *placed {
            self.seen = digest(self.text.as_bytes());
        }
        put
    }

    /// The config file holds what is in force, so that a restart finds it; one that is newer is left alone.
    pub(crate) fn write_file(&mut self) -> Result<()> {
        match self.file_is(&self.text)? {
            FileIs::Same => {}
            FileIs::Newer => return Ok(()),
            FileIs::Known => replace_file(&self.path, &self.text)?,
        }
        self.seen = digest(self.text.as_bytes());
        Ok(())
    }
}

/// What of a file's content is known. Size, time and inode say too little: only the content counts.
fn file_is(there: Option<&str>, wanted: &str, seen: &str) -> FileIs {
    match there {
        Some(there) if there == wanted => FileIs::Same,
        Some(there) if digest(there.as_bytes()) != seen => FileIs::Newer,
        _ => FileIs::Known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_newer_where_its_content_was_never_read() {
        let seen = digest(b"read");
        assert_eq!(file_is(Some("new"), "new", &seen), FileIs::Same, "somebody put there what is applied");
        assert_eq!(file_is(Some("read"), "new", &seen), FileIs::Known);
        assert_eq!(file_is(None, "new", &seen), FileIs::Known, "a file that is gone is written again");
        assert_eq!(file_is(Some("edited"), "new", &seen), FileIs::Newer);
    }
}
