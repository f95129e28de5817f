//! The Debian package: by dpkg-deb and a control file, which every Debian has. cargo-deb would be minutes of installing, and a
//! second description of the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::ebpf;

use super::tree::Tree;
use super::{Release, run};

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
const DESCRIPTION: &str = "\
layer-4 load balancer in XDP
 An XDP program hashes flows onto weighted backends; a controller keeps the
 weights in step with config and health, and compares the share that each
 backend gets with the one that was configured. It forwards without its
 controller, and moves no established connection when weights change.
 .
 The service is installed disabled: balancer init writes a first config.
";

impl Release {
    /// With the package's own number: the first of this version.
    fn debian_version(&self) -> String {
        format!("{}-1", self.version)
    }

    /// Not zstd, which Debian 11's dpkg does not know; a package of a test is installed once.
    fn compression(&self) -> &'static str {
        if self.tested { "-Znone" } else { "-Zxz" }
    }
}

pub(super) fn package(release: &Release, tree: &Tree) -> Result<PathBuf> {
    let staging = tempfile::tempdir()?;
    run(Command::new("cp").arg("-a").arg(tree.root().join(".")).arg(staging.path()))?;
    let log = "usr/share/doc/balancer/changelog.Debian";
    fs::write(staging.path().join(log), changelog(release))?;
    run(Command::new("gzip").args(["-9", "--no-name"]).arg(staging.path().join(log)))?;
    let overrides = staging.path().join("usr/share/lintian/overrides");
    fs::create_dir_all(&overrides)?;
    fs::write(overrides.join("balancer"), "# No upload to Debian.\nbalancer: initial-upload-closes-no-bugs *\n")?;
    let about = staging.path().join("DEBIAN");
    fs::create_dir(&about)?;
    for script in SCRIPTS {
        fs::copy(ebpf::root().join("deploy/debian").join(script), about.join(script))
            .with_context(|| format!("copying deploy/debian/{script}"))?;
        run(Command::new("chmod").arg("0755").arg(about.join(script)))?;
    }
    let size = installed_kib(staging.path())?;
    let needs = format!("{}, systemd | systemd-standalone-sysusers | systemd-sysusers", libraries(&release.binary)?);
    let control = format!(
        "Package: balancer\nVersion: {}\nArchitecture: amd64\nMaintainer: {}\nInstalled-Size: {size}\nDepends: {needs}\n\
         Recommends: systemd, iproute2\nSection: net\nPriority: optional\nDescription: {DESCRIPTION}",
        release.debian_version(),
        maintainer(),
    );
    fs::write(about.join("control"), control)?;
    fs::write(about.join("md5sums"), sums(staging.path())?)?;
    build(
        staging.path(),
        &release.out.join(format!("balancer_{}_amd64.deb", release.debian_version())),
        release.compression(),
    )
}

/// Debian's own judge finds nothing wrong.
pub(super) fn judge(package: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package);
    let output = lintian.output().context("running lintian")?;
    ensure!(output.status.success(), "lintian: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Symbols of the program, where debuggers look for them: by its build id.
pub(super) fn symbols(release: &Release) -> Result<PathBuf> {
    let staging = tempfile::tempdir()?;
    let notes = run(Command::new("readelf").arg("-n").arg(&release.binary))?;
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    let (first, rest) = id.and_then(|id| id.split_at_checked(2)).context("the program has no build id")?;
    let directory = staging.path().join("usr/lib/debug/.build-id").join(first);
    fs::create_dir_all(&directory)?;
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--only-keep-debug", "--compress-debug-sections"]).arg(&release.binary);
    let file = directory.join(format!("{rest}.debug"));
    run(objcopy.arg(&file))?;
    run(Command::new("chmod").arg("0644").arg(&file))?;
    let documents = staging.path().join("usr/share/doc");
    fs::create_dir_all(&documents)?;
    std::os::unix::fs::symlink("balancer", documents.join("balancer-dbgsym"))?;
    let about = staging.path().join("DEBIAN");
    fs::create_dir(&about)?;
    let version = release.debian_version();
    let size = installed_kib(staging.path())?;
    let control = format!(
        "Package: balancer-dbgsym\nVersion: {version}\nAuto-Built-Package: debug-symbols\nArchitecture: amd64\nMaintainer: {}\n\
         Installed-Size: {size}\nDepends: balancer (= {version})\nSection: debug\nPriority: optional\n\
         Build-Ids: {first}{rest}\nDescription: debug symbols for balancer\n",
        maintainer(),
    );
    fs::write(about.join("control"), control)?;
    fs::write(about.join("md5sums"), sums(staging.path())?)?;
    build(staging.path(), &release.out.join(format!("balancer-dbgsym_{version}_amd64.deb")), release.compression())
}

fn build(staging: &Path, package: &Path, compression: &str) -> Result<PathBuf> {
    run(Command::new("chmod").arg("0755").arg(staging))?;
    run(Command::new("dpkg-deb").args(["--root-owner-group", compression, "--build"]).arg(staging).arg(package))?;
    Ok(package.to_owned())
}

/// As Debian's tools take it from the environment.
fn maintainer() -> String {
    let from = |name, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    format!("{} <{}>", from("DEBFULLNAME", "balancer maintainers"), from("DEBEMAIL", "maintainers@balancer.example"))
}

fn changelog(release: &Release) -> String {
    format!(
        "balancer ({}) stable; urgency=medium\n\n  * What changed is in changelog.gz beside this file.\n\n -- {}  {}\n",
        release.debian_version(),
        maintainer(),
        release.date
    )
}

/// The package of each library that the program is linked to, with the least version where the program needs one.
fn libraries(binary: &Path) -> Result<String> {
    let symbols = run(Command::new("readelf").args(["--wide", "--version-info"]).arg(binary))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|text| {
        let number = text.split(|letter: char| letter != '.' && !letter.is_ascii_digit()).next()?;
        let (major, minor) = number.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?))
    });
    let (major, minor) = versions.max().context("the program is not linked to glibc")?;
    Ok(format!("libc6 (>= {major}.{minor}), libgcc-s1 (>= 4.2)"))
}

fn installed_kib(staging: &Path) -> Result<String> {
    let said = run(Command::new("du").args(["-sk", "--apparent-size"]).arg(staging))?;
    Ok(said.split_whitespace().next().unwrap_or("0").to_owned())
}

fn sums(staging: &Path) -> Result<String> {
    let sum = "find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | sort -z | xargs -0 md5sum";
    run(Command::new("sh").current_dir(staging).args(["-c", sum]))
}
