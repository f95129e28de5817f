//! `cargo xtask kernels`: the product on other kernels, each in a virtual machine without network or disk.

mod fetch;
mod guest;
mod image;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result};
use xtask::ebpf;
use xtask::report::Verdict;

use crate::setup;
use fetch::Kernel;
use table::Run;

/// The first two numbers of a kernel's version, such as `6.1`.
#[derive(Debug, Clone)]
pub(crate) struct Series(String);

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('.') {
            Some((major, minor)) if number(major) && number(minor) => Ok(Self(text.to_owned())),
            _ => Err("two numbers with a dot between them are wanted, such as 6.1".to_owned()),
        }
    }
}

/// A kernel that must be refused, and long-term ones that must work.
const DEFAULT: [&str; 3] = ["5.10", "6.1", "6.12"];

/// Programs that this command calls, and the packages they are in.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("strip", "binutils"),
    ("ipvsadm", "ipvsadm"),
];

/// Everything fetched and made is kept here, so that a second run is fast.
fn directory() -> PathBuf {
    // A link where `.ci/run` keeps it elsewhere; modprobe says where files really are.
    let target = ebpf::root().join("target");
    target.canonicalize().unwrap_or(target).join("kernels")
}

/// Runs the product on the kernels of these series. What can't be had is an error, or, `if_possible`, a
/// line.
pub(crate) fn run(asked: &[Series], if_possible: bool, build: impl FnOnce() -> Result<()>) -> Result<ExitCode> {
    let asked: Vec<&str> = asked.iter().map(|series| series.0.as_str()).collect();
    let kernels = fetch(if asked.is_empty() { &DEFAULT } else { &asked }, if_possible)?;
    if kernels.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    build()?;
    boot(&kernels)
}

/// Has virtual machines and kernels of these series here. What can't be had is an error, or, `if_possible`, a line.
pub(crate) fn fetch(series: &[&str], if_possible: bool) -> Result<Vec<Kernel>> {
    let skipped = |error: &anyhow::Error| eprintln!("xtask: skipped: {error:#}");
    if let Err(error) = setup::tools(TOOLS).context("no virtual machine") {
        if if_possible {
            skipped(&error);
            return Ok(Vec::new());
        }
        return Err(error);
    }
    let mut kernels = Vec::new();
    for series in series {
        match fetch::kernel(&directory(), series) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) if if_possible => skipped(&error),
            Err(error) => return Err(error),
        }
    }
    Ok(kernels)
}

/// Runs what is built on each of them.
pub(crate) fn boot(kernels: &[Kernel]) -> Result<ExitCode> {
    let mut runs = Vec::new();
    for kernel in kernels {
        println!("Linux {} ({})", kernel.series, kernel.package);
        let initramfs = image::build(kernel)?;
        runs.push(guest::run(kernel, &initramfs, |case| println!("{}", table::line(case)))?);
        println!();
    }
    println!("{}", table::matrix(&runs));
    Ok(if runs.iter().all(Run::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A case that the host adds: what the guest could not say.
fn broken(name: &str, detail: String, seconds: f64) -> xtask::report::Case {
    xtask::report::Case { name: name.to_owned(), verdict: Verdict::Fails, detail, seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        for text in ["6.1", "5.10"] {
            assert_eq!(text.parse::<Series>().unwrap().0, text);
        }
        for text in ["", "6", "6.", ".1", "6.1.0", "../x", "6.x"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }
}
