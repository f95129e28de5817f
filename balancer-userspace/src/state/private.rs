//! Who may read the state directory: nobody else. It holds whole configs, and so the seed that says which flows go where.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::replace::PREFIX;

/// Directories within.
const WITHIN: [&str; 2] = [super::CONTENTS, "profile"];
/// A temporary file that is younger may be another's who is at it.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Makes a directory that nobody else can look into, and those above it that are not there.
pub(super) fn make_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes from others what an earlier version let them read. A directory in which others have files is left to them.
pub fn make_private(path: &Path) {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    if entries(path).all(|entry| is_ours(&entry)) {
        restrict(path, 0o700);
    } else {
        log::warn!("{} holds other files as well, and is left as readable as it is", path.display());
    }
    for file in entries(path).filter(|entry| is_ours(entry) && entry.is_file()) {
        restrict(&file, 0o600);
    }
    for directory in WITHIN.map(|name| path.join(name)).iter().filter(|directory| directory.is_dir()) {
        restrict(directory, 0o700);
        entries(directory).filter(|entry| entry.is_file()).for_each(|file| restrict(&file, 0o600));
    }
}

fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let ends = [".json", ".jsonl"].iter().any(|end| name.ends_with(end));
    ends || name.contains(".damaged-") || name.starts_with(PREFIX) || WITHIN.contains(&name)
}

fn restrict(path: &Path, mode: u32) {
    let open = fs::symlink_metadata(path).is_ok_and(|about| !about.is_symlink() && about.mode() & 0o777 != mode);
    if open && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode)) {
        log::warn!("others may read {}: {error}", path.display());
    }
}

/// Removes the temporary files of controllers that were killed while they wrote into one of these directories.
pub fn leftovers(directories: &[&Path], now: SystemTime) {
    let own = nix::unistd::geteuid().as_raw();
    for entry in directories.iter().flat_map(fs::read_dir).flatten().flatten() {
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let Ok(about) = entry.metadata() else { continue };
        let age = about.modified().ok().and_then(|modified| now.duration_since(modified).ok()).unwrap_or_default();
        if is_named && about.is_file() && about.uid() == own && age >= LEFT_BEHIND {
            let path = entry.path();
            match fs::remove_file(&path) {
                Ok(()) => log::info!("removed {}, which a killed controller left behind", path.display()),
                Err(error) => log::warn!("removing {}: {error}", path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_temporary_files_of_ours_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for name in [".balancer-abc", "balancer.toml", ".other-abc"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join(".balancer-directory")).unwrap();
        let count = || fs::read_dir(directory.path()).unwrap().count();
        leftovers(&[directory.path(), Path::new("/none")], SystemTime::now());
        assert_eq!(count(), 4, "somebody may be at it");
        leftovers(&[directory.path()], SystemTime::now() + 2 * LEFT_BEHIND);
        assert_eq!(count(), 3);
        assert!(!directory.path().join(".balancer-abc").exists());
    }
}
