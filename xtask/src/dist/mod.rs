//! `cargo xtask dist`: what a release is made of. One tree, as it lies below `/`, becomes a tarball and a Debian package.

mod debian;
mod licences;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use clap::Args;
use xtask::ebpf;

use self::tree::Tree;

#[derive(Args)]
pub(crate) struct Dist {
    /// Pack this program, such as that of a test, instead of building the release; without its debug symbols
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Version of the package
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Directory for what is made; default: target/dist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a package is called and made of.
struct Release {
    /// Of the program, without the package's own number behind it.
    version: String,
    /// When the sources were as they are now, as `date -R` has it.
    date: String,
    binary: PathBuf,
    /// By a test of this build, which makes neither tarball nor symbols.
    tested: bool,
    out: PathBuf,
}

impl Dist {
    pub(crate) fn run(self, build: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
        let tested = self.binary.is_some();
        let binary = self.binary.map_or_else(build, Ok)?;
        let out = self.out.unwrap_or_else(|| ebpf::root().join("target/dist"));
        std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
        let release = Release { version: self.version, date: date()?, binary, tested, out };
        let tree = Tree::of(&release)?;
        let package = debian::package(&release, &tree)?;
        println!("{}", package.display());
        if !tested {
            debian::judge(&package)?;
            println!("{}", debian::symbols(&release)?.display());
            println!("{}", tarball(&release, &tree)?.display());
        }
        Ok(())
    }
}

/// `SOURCE_DATE_EPOCH`, else that of the newest commit, else of the changelog, so that the same sources give the same package.
fn date() -> Result<String> {
    let commit = || {
        let log = ["log", "-1", "--format=%ct"];
        let output = Command::new("git").arg("-C").arg(ebpf::root()).args(log).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().or_else(commit);
    let mut date = Command::new("date");
    match given {
        Some(seconds) => date.args(["-R", "-u", "-d", &format!("@{seconds}")]),
        None => date.args(["-R", "-u", "-r"]).arg(ebpf::root().join("CHANGELOG.md")),
    };
    Ok(run(&mut date)?.trim().to_owned())
}

fn tarball(release: &Release, tree: &Tree) -> Result<PathBuf> {
    let name = format!("balancer-{}-x86_64-linux", release.version);
    let archive = release.out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(tree.root()).args(["--owner=0", "--group=0", "--sort=name"]);
    tar.arg(format!("--mtime={}", release.date)).arg(format!("--transform=s,^\\.,{name},"));
    run(tar.arg("-czf").arg(&archive).arg("."))?;
    Ok(archive)
}

/// Runs a program to its good end; answers what it printed.
fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
