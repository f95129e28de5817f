//! Open files of this process, of which probes, sockets and maps all need some.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// Beyond this part of the limit an alarm says so, and the metrics listener takes no more connections.
pub const NEARLY_ALL: f64 = 0.9;

/// How many there may be.
pub fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// How many there are; unknown without /proc.
pub fn used() -> Option<u64> {
    // Linux 6.2 and later say the number as the directory's size.
    let counted = fs::metadata("/proc/self/fd").ok()?.len();
    if counted > 0 { Some(counted) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

/// What an alarm says, where they run out.
pub fn running_out(used: u64, limit: u64) -> Option<String> {
    let nearly = used as f64 > limit as f64 * NEARLY_ALL;
    nearly.then(|| {
        format!(
            "{used} of {limit} files are open; checks, connections and changes fail once all are: raise LimitNOFILE="
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_comes_before_descriptors_have_run_out() {
        assert_eq!(running_out(900, 1000), None);
        assert!(running_out(901, 1000).is_some_and(|said| said.contains("901 of 1000")));
        assert!(used().is_some_and(|used| used > 2));
    }
}
