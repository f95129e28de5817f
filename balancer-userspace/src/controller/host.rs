//! What the host must offer, checked before anything is touched.

use std::fs;

use anyhow::{Result, ensure};

/// Multi-buffer XDP.
const OLDEST_KERNEL: (u32, u32) = (5, 18);

/// Numbers of linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// An error says what is missing and how to get it.
pub(crate) fn check() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(effective(&status));
    ensure!(
        missing.is_empty(),
        "loading programs into the kernel and attaching them to interfaces needs {}; run as root, or give these \
         capabilities (deploy/balancer.service does)",
        missing.join(", ")
    );
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = OLDEST_KERNEL;
    ensure!(
        version(&release).is_none_or(|version| version >= OLDEST_KERNEL),
        "this is Linux {}; balancer needs {major}.{minor} or newer, for multi-buffer XDP",
        release.trim()
    );
    Ok(())
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    let all = has(CAP_SYS_ADMIN);
    let needed = [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        ("CAP_BPF", has(CAP_BPF) || all),
        ("CAP_PERFMON", has(CAP_PERFMON) || all),
    ];
    needed.iter().filter(|(_, has)| !has).map(|(name, _)| *name).collect()
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing_capabilities(0), ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing_capabilities(1 << CAP_NET_ADMIN | 1 << CAP_BPF), ["CAP_PERFMON"]);
        assert!(missing_capabilities(1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN).is_empty());
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000001000\n"), 1 << CAP_NET_ADMIN);
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(version("5.18-rc1"), Some((5, 18)));
        assert!(version("5.4.0") < Some(OLDEST_KERNEL));
        assert_eq!(version("unknown"), None);
    }
}
