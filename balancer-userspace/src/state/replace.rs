//! A file put in the place of another, whole: written beside it under another name and renamed over it.

use std::fs::{self, File, Metadata};
use std::io::{Result, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use tempfile::NamedTempFile;

/// Of names of files that are being written.
pub(super) const PREFIX: &str = ".balancer-";
/// Attributes of a file that are kept, all names and each value: access lists are some hundred bytes.
const MOST_BYTES: usize = 64 << 10;

/// Whether a file must survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durable {
    Yes,
    No,
}

/// A file that is written, but not yet in its place.
pub struct StagedFile {
    file: NamedTempFile,
    path: PathBuf,
    durable: Durable,
}

impl StagedFile {
    /// Puts it in its place.
    ///
    /// # Errors
    /// Where it can't be; the file is what it was then, or the new one where only its directory could not be synced.
    pub fn put(self) -> anyhow::Result<()> {
        let path = self.path.clone();
        self.persist().with_context(|| format!("writing {}", path.display()))
    }

    fn persist(self) -> Result<()> {
        self.file.persist(&self.path)?;
        if self.durable == Durable::Yes {
            File::open(directory_of(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

/// Puts a file in the place of another of this name, which keeps its owner, group, mode and access lists.
///
/// # Errors
/// As [`StagedFile::put`].
pub fn replace_file(path: &Path, text: &str) -> anyhow::Result<()> {
    stage_file(path, text)?.put()
}

/// Writes what [`replace_file`] would, so that hardly anything is left that could fail.
///
/// # Errors
/// Where it can't be written.
pub fn stage_file(path: &Path, text: &str) -> anyhow::Result<StagedFile> {
    // Where the path is a link, what it points to is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    stage(&path, text.as_bytes(), Durable::Yes, Some(&path)).with_context(|| format!("writing {}", path.display()))
}

/// For a file that nobody else may read, and that a loss of power may take.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    write_whole(path, text.as_bytes(), Durable::No)
}

/// For a file that nobody else may read.
pub(super) fn write_whole(path: &Path, bytes: &[u8], durable: Durable) -> Result<()> {
    stage(path, bytes, durable, None)?.persist()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn stage(path: &Path, bytes: &[u8], durable: Durable, like: Option<&Path>) -> Result<StagedFile> {
    // Readable by its owner alone.
    let mut file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(directory_of(path))?;
    file.write_all(bytes)?;
    if let Some(before) =
        like.and_then(|like| File::options().read(true).custom_flags(libc::O_NONBLOCK).open(like).ok())
        && let Ok(about) = before.metadata()
    {
        take_over(&before, &about, file.as_file())?;
    }
    if durable == Durable::Yes {
        file.as_file().sync_all()?;
    }
    Ok(StagedFile { file, path: path.to_owned(), durable })
}

/// Whose it is before what they may do: a change of owner takes rights away.
fn take_over(before: &File, about: &Metadata, file: &File) -> Result<()> {
    let now = file.metadata()?;
    if (now.uid(), now.gid()) != (about.uid(), about.gid())
        && fchown(file, Some(about.uid()), Some(about.gid())).is_err()
        && fchown(file, None, Some(about.gid())).is_err()
    {
        log::warn!("who may write the file changes: its owner {} can't be kept", about.uid());
    }
    file.set_permissions(about.permissions())?;
    let mut names = vec![0; MOST_BYTES];
    // Where the file system has none, there is nothing to keep.
    let length = flistxattr(before, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MOST_BYTES];
        let kept = fgetxattr(before, name, &mut value[..])
            .and_then(|length| fsetxattr(file, name, &value[..length], XattrFlags::empty()));
        if let Err(error) = kept {
            log::warn!("the attribute {} of the file is not kept: {error}", String::from_utf8_lossy(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_stays_whose_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("balancer.toml"), directory.path().join("link"));
        fs::write(&path, "# before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root may give files away.
        let (owner, group) = if nix::unistd::geteuid().is_root() { (65534, 65533) } else { (0, 0) };
        if owner != 0 {
            chown(&path, Some(owner), Some(group)).unwrap();
        }
        let attribute = fsetxattr(File::open(&path).unwrap(), "user.note", b"kept", XattrFlags::empty());
        let before = fs::metadata(&path).unwrap();
        replace_file(&link, "# after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# after");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
        assert_eq!(after.mode() & 0o777, 0o640);
        if attribute.is_ok() {
            let mut value = [0; 16];
            let length = fgetxattr(File::open(&path).unwrap(), "user.note", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"kept");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
