//! Reading a file for somebody else, who must not learn by it what they could not read themselves.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::regular::{self, Unreadable};

const READ: u32 = 4;
const SEARCH: u32 = 1;

/// Of a user with all groups. Access lists of the file system are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    pub uid: u32,
    pub groups: Vec<u32>,
}

impl Rights {
    /// As [`regular::text`], where every directory on the way may be searched and the file be read by this user.
    ///
    /// # Errors
    /// As there; one sentence for a file that may not be read and for one that is not there.
    pub fn text(&self, path: &Path, most: u64) -> Result<String, Unreadable> {
        let file = self.open(path).ok_or(Unreadable::Denied(self.uid))?;
        let mut bytes = Vec::new();
        let failed = |error: std::io::Error| Unreadable::Failed(error.to_string());
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most { Err(Unreadable::TooLarge(most >> 20)) } else { regular::utf8(bytes) }
    }

    /// From the root on, each step judged by what was opened: nobody can put something else in the way meanwhile.
    fn open(&self, path: &Path) -> Option<File> {
        let path = fs::canonicalize(path).ok()?;
        let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let (last, directories) = names.split_last()?;
        let whole = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mut at = openat(AT_FDCWD, "/", whole | OFlag::O_PATH, Mode::empty()).ok()?;
        for directory in directories {
            self.allows(&at, SEARCH)?;
            at = openat(&at, directory.as_os_str(), whole | OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
        }
        self.allows(&at, SEARCH)?;
        // Looked at before it is opened for reading: to open some devices is to act on them.
        let seen = openat(&at, last.as_os_str(), whole | OFlag::O_PATH, Mode::empty()).ok()?;
        let about = self.allows(&seen, READ)?;
        if about.st_mode & libc::S_IFMT != libc::S_IFREG {
            return None;
        }
        let file = openat(&at, last.as_os_str(), whole | OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).ok()?;
        let opened = self.allows(&file, READ)?;
        (opened.st_mode & libc::S_IFMT == libc::S_IFREG).then(|| File::from(file))
    }

    fn allows(&self, file: &OwnedFd, wanted: u32) -> Option<FileStat> {
        let about = fstat(file).ok()?;
        self.permits(about.st_uid, about.st_gid, about.st_mode, wanted).then_some(about)
    }

    /// Of the three classes, only the first that fits counts.
    fn permits(&self, owner: u32, group: u32, mode: u32, wanted: u32) -> bool {
        let class = if owner == self.uid {
            mode >> 6
        } else if self.groups.contains(&group) {
            mode >> 3
        } else {
            mode
        };
        class & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let alice = Rights { uid: 1001, groups: vec![50, 60] };
        for (owner, group, mode, may) in [
            (1001, 1, 0o400, true),
            (1001, 50, 0o044, false),
            (0, 60, 0o640, true),
            (0, 60, 0o604, false),
            (0, 0, 0o644, true),
            (0, 0, 0o660, false),
        ] {
            assert_eq!(alice.permits(owner, group, mode, READ), may, "{owner} {group} {mode:o}");
        }
    }

    #[test]
    fn what_somebody_may_not_read_is_not_read_for_them() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(at("closed")).unwrap();
        for name in ["open", "secret", "closed/open"] {
            fs::write(at(name), name).unwrap();
            mode(&at(name), 0o644);
        }
        mode(directory.path(), 0o755);
        mode(&at("secret"), 0o600);
        mode(&at("closed"), 0o700);
        symlink(at("secret"), at("link")).unwrap();
        let own = fs::metadata(at("open")).unwrap().uid();
        let stranger = Rights { uid: own + 4711, groups: vec![4711] };
        assert_eq!(stranger.text(&at("open"), 100).unwrap(), "open");
        for name in ["secret", "closed/open", "link", "none", "closed/none", "closed"] {
            assert_eq!(stranger.text(&at(name), 100), Err(Unreadable::Denied(own + 4711)), "{name}");
        }
        let owner = Rights { uid: own, groups: Vec::new() };
        assert_eq!(owner.text(&at("link"), 100).unwrap(), "secret");
        assert_eq!(owner.text(&at("link"), 3), Err(Unreadable::TooLarge(0)));
    }
}
