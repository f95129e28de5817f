//! The way to a file: each directory in which one of its names is looked up, symbolic links followed. Whoever changes any of
//! these names changes what the path leads to.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Links that are followed, as in the kernel.
const MOST_LINKS: u32 = 40;

/// Directories with the name that is looked up there, the last of which is the file's own. A name that is not there ends the
/// way: whoever makes it changes it.
pub(crate) fn names(path: &Path) -> BTreeSet<(PathBuf, OsString)> {
    let mut found = BTreeSet::new();
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (mut here, mut left) = (PathBuf::from("/"), parts(&whole));
    let mut links = 0;
    // The next part is the last one.
    while let Some(part) = left.pop() {
        if part == OsStr::new("..") {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        found.insert((here.clone(), part));
        match std::fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
            _ if next.exists() => here = next,
            _ => break,
        }
    }
    found
}

/// Names in reverse.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_name_that_leads_to_the_file_is_on_its_way() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(root.join("..2026_1")).unwrap();
        fs::write(root.join("..2026_1/balancer.toml"), "").unwrap();
        symlink("..2026_1", root.join("..data")).unwrap();
        symlink("..data/balancer.toml", root.join("balancer.toml")).unwrap();
        let way = names(&root.join("balancer.toml"));
        for (at, name) in [("", "balancer.toml"), ("", "..data"), ("", "..2026_1"), ("..2026_1", "balancer.toml")] {
            let at = if at.is_empty() { root.clone() } else { root.join(at) };
            assert!(way.contains(&(at.clone(), name.into())), "{name} in {}: {way:?}", at.display());
        }
        assert!(way.contains(&(PathBuf::from("/"), way.first().unwrap().1.clone())));
    }

    #[test]
    fn a_way_that_ends_or_goes_round_is_followed_as_far_as_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let way = names(&root.join("none/balancer.toml"));
        assert!(way.contains(&(root.clone(), "none".into())));
        assert!(!way.iter().any(|(_, name)| name == "balancer.toml"));
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(names(&root.join("a")).contains(&(root, "b".into())));
    }
}
