//! Installing what is missing on a Debian 12 machine with rustup's stable Rust.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};
use xtask::toolchain::{LINKER_ADVICE, Toolchain, linker};

/// Programs that tests and the demo call, and the packages they are in.
const TOOLS: &[(&str, &str)] =
    &[("ip", "iproute2"), ("ethtool", "ethtool"), ("nsenter", "util-linux"), ("sysctl", "procps"), ("cc", "gcc")];

/// Makes sure that everything is there. Says a line for each thing it installs.
pub(crate) fn everything() -> Result<()> {
    everything_and(&[])
}

/// The same, with programs that are wanted beside.
pub(crate) fn everything_and(more: &[(&str, &str)]) -> Result<()> {
    ensure!(
        is_root(),
        "this needs root: it makes network namespaces and loads programs into the kernel; run it as root (sudo -E)"
    );
    tools(&[TOOLS, more].concat())?;
    if Toolchain::find().is_err() {
        apt(&["rustc-web", "cargo-web", "rust-web-src"])?;
        Toolchain::find()?;
    }
    if linker().is_err() {
        install_linker()?;
    }
    mount_bpffs()
}

/// Installs the packages of programs that are missing, all at once.
pub(crate) fn tools(tools: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = tools.iter().filter(|(tool, _)| !is_on_path(tool)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn is_on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

fn apt(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let advice = format!("can't install {list}; install by hand what provides it, then try again");
    ensure!(is_on_path("apt-get"), "there is no apt-get here, and {advice}");
    eprintln!("xtask: installing {list}");
    // An index that is older than the mirror's names packages that are gone.
    let update = quiet("apt-get", &["update", "-qq"]);
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "-y", "--no-install-recommends"]).args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    if install.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    if !update {
        bail!("apt-get update failed (is the network up?), {advice}");
    }
    bail!("{advice}");
}

fn quiet(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Builds bpf-linker on the LLVM that fits Debian's Rust.
fn install_linker() -> Result<()> {
    let prefix = Path::new("/usr/lib/llvm-22");
    if !prefix.join("bin/llvm-config").exists() {
        apt(&["llvm-22-dev"])?;
    }
    eprintln!("xtask: installing bpf-linker (about a minute)");
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", "bpf-linker", "--no-default-features", "--features", "llvm-22"]);
    install.env("LLVM_PREFIX", prefix);
    ensure!(install.status().is_ok_and(|status| status.success()), "bpf-linker does not install; {LINKER_ADVICE}");
    linker().map(|_| ())
}

/// Installs a tool of crates.io where it is missing. Built without optimisation: it runs for a second and builds for minutes.
pub(crate) fn cargo_tool(program: &str, package: &str) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).unwrap_or_default();
    if is_on_path(program) || home.join("bin").join(program).is_file() {
        return Ok(());
    }
    eprintln!("xtask: installing {package} (minutes)");
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "--locked", "--debug", package]);
    ensure!(install.status().is_ok_and(|status| status.success()), "`cargo install {package}` failed");
    Ok(())
}

/// Mounts a BPF file system where none is; pins live there.
fn mount_bpffs() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"));
    if !mounted {
        eprintln!("xtask: mounting a BPF file system on /sys/fs/bpf");
        ensure!(quiet("mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"]), "mount -t bpf bpf /sys/fs/bpf failed");
    }
    Ok(())
}

/// Leaves Ctrl-C to the child, which shares the terminal; this process waits for it to clean up.
pub(crate) fn ignore_interrupts() {
    // A handler and not SIG_IGN, which the child would inherit.
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler does nothing, which is safe in a signal handler.
    unsafe { libc::signal(libc::SIGINT, handler) };
}
