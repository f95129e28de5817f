//! `cargo xtask fuzz`: coverage-guided fuzzing of the packet path in userspace. What it finds new is kept in the corpus,
//! which a test replays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::{cargo, wait};
use xtask::{corpus, ebpf};

/// Coverage counters for LLVM's fuzzer, which the stable compiler can put in as well as any.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
const HOST: &str = "x86_64-unknown-linux-gnu";

/// Bytes of the longest input.
const LONGEST: &str = "2048";

pub(crate) fn run(seconds: u32) -> Result<ExitCode> {
    let target = ebpf::root().join("target/fuzz");
    let program = build(&target)?;
    let (known, found) = (target.join("corpus"), target.join("found"));
    for directory in [&known, &found] {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    unpack(&known)?;
    let fuzzer = |arguments: &[&str], directories: &[&Path]| {
        let mut command = Command::new(&program);
        command.args(arguments).arg(format!("-max_len={LONGEST}")).arg("-print_final_stats=1").args(directories);
        command.current_dir(&target);
        command
    };
    let time = format!("-max_total_time={seconds}");
    let code = wait(fuzzer(&[&time, "-timeout=5"], &[&known]))?;
    if code != ExitCode::SUCCESS {
        eprintln!("fuzz: the input that fails is in {}; fix what it shows, and add it to the tests", target.display());
        return Ok(code);
    }
    let merged = wait(fuzzer(&["-merge=1"], &[&found, &known]))?;
    if merged == ExitCode::SUCCESS {
        pack(&found)?;
    }
    Ok(merged)
}

fn build(target: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--target", HOST, "--manifest-path", "fuzz/Cargo.toml"]);
    command.arg("--target-dir").arg(target).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    // No program of the kernel takes part.
    command.env("BALANCER_SKIP_EBPF", "1");
    ensure!(command.status().context("running cargo build")?.success(), "the fuzz target does not build");
    Ok(target.join(HOST).join("release/frame"))
}

fn packed() -> PathBuf {
    ebpf::root().join("fuzz/corpus.bin")
}

fn unpack(directory: &Path) -> Result<()> {
    let all = fs::read(packed()).with_context(|| format!("reading {}", packed().display()))?;
    for (number, input) in corpus::unpack(&all).into_iter().enumerate() {
        fs::write(directory.join(format!("{number:05}")), input)?;
    }
    Ok(())
}

/// In an order that does not depend on names, so that the file changes with its content only.
fn pack(directory: &Path) -> Result<()> {
    let read = |entry: std::io::Result<fs::DirEntry>| -> Result<Vec<u8>> { Ok(fs::read(entry?.path())?) };
    let inputs: BTreeSet<Vec<u8>> = fs::read_dir(directory)?.map(read).collect::<Result<_>>()?;
    let bytes = corpus::pack(inputs.iter().map(Vec::as_slice));
    fs::write(packed(), &bytes)?;
    println!("{} inputs, {} bytes in {}", inputs.len(), bytes.len(), packed().display());
    Ok(())
}
