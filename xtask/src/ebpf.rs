//! `balancer-ebpf` and `tests/ebpf` to objects that the kernel loads.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::toolchain::{Toolchain, linker, scrub};

/// An eBPF crate of this workspace.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    package: &'static str,
    directory: &'static str,
    binary: &'static str,
}

/// The product's program.
pub const BALANCER: Object = Object { package: "balancer-ebpf", directory: "balancer-ebpf", binary: "balancer-xdp" };
/// Programs that tests and benchmarks need around it.
pub const TESTS: Object =
    Object { package: "balancer-tests-ebpf", directory: "tests/ebpf", binary: "balancer-tests-xdp" };

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Builds the object and says where it is.
///
/// # Errors
/// No toolchain or linker (the error says what to install), or a program that doesn't compile.
pub fn build(object: Object) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let linker = linker()?;
    let target = root().join("target/bpf");
    let mut command = Command::new(&toolchain.cargo[0]);
    scrub(&mut command).args(&toolchain.cargo[1..]).current_dir(root().join(object.directory));
    command.args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", "bpfel-unknown-none"]);
    command.args(["--package", object.package]).arg("--target-dir").arg(&target);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(&linker).join("\x1f"));
    if let Some(rustc) = &toolchain.rustc {
        command.env("RUSTC", rustc);
    }
    if toolchain.bootstrap {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let status = command.status().with_context(|| format!("running {}", toolchain.cargo.join(" ")))?;
    ensure!(status.success(), "{} does not build with {}", object.package, toolchain.name);
    Ok(target.join("bpfel-unknown-none/release").join(object.binary))
}

fn flags(linker: &Path) -> Vec<String> {
    let mut flags = vec![
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        // BTF is made of debug information.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // Atomics and 32-bit jumps: Linux 5.12.
        "-Ctarget-cpu=v3".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let help = Command::new(linker).arg("--help").output().map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&help).contains("allows-misaligned-mem-access");
    if listed || linker_is_recent(linker) {
        // Packed headers are else read byte by byte.
        flags.push("-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned());
    }
    flags
}

/// bpf-linker 0.10 and later are built on an LLVM that knows the feature.
fn linker_is_recent(linker: &Path) -> bool {
    let output = Command::new(linker).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    let version = text.split_whitespace().nth(1).unwrap_or("").to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(0), Some(10))
}

/// For a build script: builds the object, or takes `BALANCER_EBPF_OBJECT`, and gives its path to the crate as the
/// environment variable `variable`. `BALANCER_SKIP_EBPF=1` gives an empty file, for checks that run nothing.
///
/// # Errors
/// As [`build`].
pub fn embed(object: Object, variable: &str) -> Result<()> {
    let inputs = [object.directory, "balancer-common", "Cargo.toml", "Cargo.lock", "xtask/src/ebpf.rs"];
    for input in inputs {
        println!("cargo::rerun-if-changed={}", root().join(input).display());
    }
    for name in ["BALANCER_EBPF_OBJECT", "BALANCER_SKIP_EBPF", "BALANCER_EBPF_TOOLCHAIN", "BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let prebuilt = env::var_os("BALANCER_EBPF_OBJECT").filter(|_| object.package == BALANCER.package);
    let path = if env::var_os("BALANCER_SKIP_EBPF").is_some_and(|skip| skip == "1") {
        let stub = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?).join("skipped");
        fs::write(&stub, []).with_context(|| format!("writing {}", stub.display()))?;
        stub
    } else if let Some(prebuilt) = prebuilt {
        prebuilt.into()
    } else {
        build(object)?
    };
    println!("cargo::rustc-env={variable}={}", path.display());
    Ok(())
}
