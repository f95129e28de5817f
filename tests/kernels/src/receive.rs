//! How a backend takes outer headers off with the kernel's own devices: the commands of docs/deploy.md, run as they stand there.

use anyhow::{Context, Result};
use serde_json::Value;

use harness::netns::{Namespace, run};

/// For `ipip`.
const IPIP: [&str; 4] = [
    "modprobe ipip && ip link set tunl0 up",
    "modprobe sit && ip link set sit0 up",
    "ip link add ipip6 type ip6tnl external && ip link set ipip6 up",
    "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0 net.ipv4.conf.ipip6.rp_filter=0",
];

/// Further ones for `gue`.
const GUE: [&str; 2] = ["modprobe fou && ip fou add port 6080 gue", "ip fou add port 6080 gue -6"];

pub(super) fn prepare(backend: &Namespace) -> Result<()> {
    all(backend, &IPIP)
}

pub(super) fn prepare_gue(backend: &Namespace) -> Result<()> {
    all(backend, &GUE)
}

fn all(backend: &Namespace, commands: &[&str]) -> Result<()> {
    commands.iter().try_for_each(|line| run(backend.command("sh").args(["-c", line])).map(drop))
}

/// Packets that came out of a tunnel device.
pub(super) fn received(backend: &Namespace, device: &str) -> Result<u64> {
    let output = run(backend.command("ip").args(["-s", "-j", "link", "show", "dev", device]))?;
    let links: Value = serde_json::from_slice(&output.stdout)?;
    let packets = &links[0]["stats64"]["rx"]["packets"];
    packets.as_u64().with_context(|| format!("no counter of {device} in {links}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_give_the_commands_that_were_tried() {
        let docs = include_str!("../../../docs/deploy.md");
        let commands: Vec<&str> = docs.lines().map(|line| line.split(" #").next().unwrap_or(line).trim_end()).collect();
        for command in IPIP.into_iter().chain(GUE) {
            assert!(commands.contains(&command), "docs/deploy.md has no line {command:?}");
        }
    }
}
