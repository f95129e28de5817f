//! The guest's only file system: an initramfs with the programs of this build, a few of the host's, and kernel modules.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use xtask::ebpf;

use super::fetch::{Kernel, run};
use crate::TESTED;

/// Programs of this workspace.
const OURS: [&str; 3] = ["balancer", "labserver", "kernel-guest"];
/// Programs of this host that those call.
const HOST: [&str; 9] = ["sh", "mkdir", "mount", "modprobe", "ip", "ethtool", "nsenter", "sysctl", "ipvsadm"];
/// With what they need; the kernel asks modprobe for them where nobody does.
const MODULES: [&str; 15] = [
    "veth",
    "bridge",
    "ipip",
    "sit",
    "ip6_tunnel",
    "fou",
    "fou6",
    "8021q",
    "af_packet",
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_sh",
    "ip_vs_mh",
    "ip_vs_fo",
];

/// Kernel messages and everything said on the way go to the first serial port, the cases' outcomes to the second.
const INIT: &str = "#!/bin/sh
export PATH=/bin HOME=/ TMPDIR=/tmp
mkdir -p /proc /sys /dev /run /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
exec >/dev/ttyS0 2>&1
kernel-guest >/dev/ttyS1
echo b >/proc/sysrq-trigger
";

/// Makes the initramfs anew and says where it is.
///
/// # Errors
/// A program is missing, or the disk is full.
pub(super) fn build(kernel: &Kernel) -> Result<PathBuf> {
    let staging = kernel.directory.join("initramfs");
    let _ = fs::remove_dir_all(&staging);
    let bin = staging.join("bin");
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(staging.join("sbin"))?;
    let mut libraries = BTreeSet::new();
    for name in OURS {
        let program = ebpf::root().join("target").join(TESTED).join(name);
        libraries.extend(needed(&program)?);
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(bin.join(name)).arg(&program))?;
    }
    for name in HOST {
        let program = on_path(name).with_context(|| format!("there is no program {name}"))?;
        libraries.extend(needed(&program)?);
        copy(&program, &bin.join(name))?;
    }
    // Where the kernel looks for it.
    symlink("/bin/modprobe", staging.join("sbin/modprobe"))?;
    for library in libraries {
        copy(&library, &inside(&staging, &library))?;
    }
    modules(kernel, &staging)?;
    fs::write(staging.join("init"), INIT)?;
    fs::set_permissions(staging.join("init"), fs::Permissions::from_mode(0o755))?;
    archive(&staging, &kernel.directory.join("initramfs.cpio"))
}

fn inside(staging: &Path, absolute: &Path) -> PathBuf {
    staging.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Shared libraries that the dynamic linker would load, and the linker itself; none for a static program.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("not found"), "{} lacks a library:\n{text}", program.display());
    let words = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(words.map(PathBuf::from).collect())
}

/// Modules with what they need, and the indices that modprobe reads.
fn modules(kernel: &Kernel, staging: &Path) -> Result<()> {
    let relative = PathBuf::from("lib/modules").join(&kernel.release);
    for entry in fs::read_dir(kernel.modules())?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("modules.") {
            copy(&entry.path(), &staging.join(&relative).join(entry.file_name()))?;
        }
    }
    let mut command = Command::new("modprobe");
    command.arg("-d").arg(&kernel.root).args(["-S", &kernel.release, "--show-depends", "-a"]).args(MODULES);
    let output = command.stderr(Stdio::null()).output().context("running modprobe")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // What is built in has no file, and no such line.
    for path in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
        let path = Path::new(path.trim());
        copy(path, &staging.join(path.strip_prefix(&kernel.root)?))?;
    }
    Ok(())
}

fn archive(staging: &Path, target: &Path) -> Result<PathBuf> {
    let file = fs::File::create(target).with_context(|| format!("creating {}", target.display()))?;
    let mut command = Command::new("sh");
    command.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(staging).stdout(file);
    ensure!(command.status().context("running cpio")?.success(), "cpio failed on {}", staging.display());
    fs::remove_dir_all(staging)?;
    Ok(target.to_owned())
}
