//! What a change must pass before any test runs: format, lints, documentation, licences and sources, spelling.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::ebpf;

use crate::{cargo, setup};

/// Gates that need no eBPF toolchain and no root, in the order of what they cost.
pub(crate) fn run() -> Result<()> {
    let root = ebpf::root();
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    setup::cargo_tool("typos", "typos-cli")?;
    step("spelling", Command::new("typos").args(["--format", "brief", "."]).current_dir(root))?;
    setup::cargo_tool("cargo-deny", "cargo-deny")?;
    step(
        "licences, bans and sources",
        cargo().args(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]),
    )?;
    // The eBPF objects are not needed to look at code; a target directory of its own keeps the real build's objects.
    let apart = |command: &mut Command| {
        command.args(["--quiet", "--target-dir"]).arg(root.join("target/clippy")).env("BALANCER_SKIP_EBPF", "1");
    };
    let mut clippy = cargo();
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    apart(&mut clippy);
    step("lints", clippy.args(["--", "-D", "warnings"]))?;
    let mut doc = cargo();
    doc.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    apart(&mut doc);
    step("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{name}: {command:?} found something to put right");
    println!("{name}: nothing to put right");
    Ok(())
}
