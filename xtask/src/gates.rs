//! What a change must pass before any test runs: format, lints, documentation, licences and sources, spelling.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::ebpf;
use xtask::toolchain::{Toolchain, linker};

use crate::{TESTED, cargo, setup};

/// All gates. They need neither root nor the eBPF toolchain.
pub(crate) fn run() -> Result<()> {
    words()?;
    code()
}

/// What tools of crates.io look at; they are installed where they are missing.
pub(crate) fn words() -> Result<()> {
    setup::cargo_tool("typos", "typos-cli")?;
    step("spelling", Command::new("typos").args(["--format", "brief", "."]).current_dir(ebpf::root()))?;
    setup::cargo_tool("cargo-deny", "cargo-deny")?;
    step(
        "licences, bans and sources",
        cargo().args(["deny", "--log-level", "error", "check", "licenses", "bans", "sources"]),
    )
}

/// What cargo looks at.
pub(crate) fn code() -> Result<()> {
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo();
    clippy.args(["clippy", "--locked", "--workspace", "--all-targets"]);
    beside_tests(&mut clippy);
    step("lints", clippy.args(["--", "-D", "warnings"]))?;
    let mut doc = cargo();
    doc.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    beside_tests(&mut doc);
    step("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Looks at what tests are built of, so that build scripts and macros are built once for both. Where the eBPF programs can't be
/// built, an empty file stands for them, in a directory of its own.
fn beside_tests(command: &mut Command) {
    command.args(["--quiet", "--profile", TESTED]);
    if Toolchain::find().is_err() || linker().is_err() {
        command.arg("--target-dir").arg(ebpf::root().join("target/clippy")).env("BALANCER_SKIP_EBPF", "1");
    }
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{name}: {command:?} found something to put right");
    println!("{name}: nothing to put right");
    Ok(())
}
