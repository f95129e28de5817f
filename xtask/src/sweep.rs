//! Taking away what a process that was killed left behind: namespaces and pins are named after it, `bl-PID-…`.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Removes what processes that are gone left behind.
pub fn dead() {
    remove(|pid| !Path::new(&format!("/proc/{pid}")).exists());
}

/// Removes what this process made; it must be gone.
pub fn of(pid: u32) {
    remove(|owner| owner == pid);
}

fn remove(chosen: impl Fn(u32) -> bool) {
    for namespace in names("/run/netns", &chosen) {
        let pids = Command::new("ip").args(["netns", "pids", &namespace]).output().map(|output| output.stdout);
        for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
    }
    for pins in names("/sys/fs/bpf", &chosen) {
        let _ = fs::remove_dir_all(Path::new("/sys/fs/bpf").join(pins));
    }
}

/// Entries of the directory that belong to a chosen process.
fn names(directory: &str, chosen: &impl Fn(u32) -> bool) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| owner(name).is_some_and(chosen)).collect()
}

/// The process in a name such as `bl-4711-3-lb`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("bl-")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        assert_eq!(owner("bl-4711-3-lb"), Some(4711));
        assert_eq!(owner("bl-x-3-lb"), None);
        assert_eq!(owner("customer-4711"), None);
    }
}
