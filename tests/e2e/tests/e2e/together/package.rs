//! The Debian package: installed, upgraded under connections, removed and purged, under a real systemd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::server::binary;
use harness::systemd::Machine;

const PROBE: &str = include_str!("package/probe.sh");

/// A package of this build's program under some version.
fn package(version: &str, directory: &Path) -> Result<PathBuf> {
    let mut dist = Command::new(binary("xtask")?);
    dist.args(["dist", "--version", version, "--binary"]).arg(binary("balancer")?).arg("--out").arg(directory);
    let output = dist.output().context("running xtask")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(directory.join(format!("balancer_{version}-1_amd64.deb")))
}

#[test]
fn a_package_is_installed_upgraded_under_connections_removed_and_purged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (old, new) = (package("0.0.9", directory.path())?, package("0.0.10", directory.path())?);
    let config = directory.path().join("balancer.toml");
    std::fs::write(&config, include_str!("package/balancer.toml"))?;
    let held = directory.path().join("held");
    std::fs::write(&held, include_str!("package/held.sh"))?;
    let (labserver, balancer) = (binary("labserver")?, binary("balancer")?);
    let machine = Machine {
        files: &[
            ("old.deb", &old),
            ("new.deb", &new),
            ("balancer.toml", &config),
            ("held", &held),
            ("labserver", &labserver),
            ("another", &balancer),
        ],
        prepare: include_str!("package/prepare.sh"),
        probe: PROBE,
    };
    machine.boot(Duration::from_secs(180))?.passed(PROBE)
}
