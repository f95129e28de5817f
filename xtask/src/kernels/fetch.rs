//! Debian's kernel packages, unpacked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where kernels are that this host's own sources don't have.
const ELSEWHERE: [&str; 6] = [
    "http://deb.debian.org/debian bullseye main",
    "http://deb.debian.org/debian-security bullseye-security main",
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian-security bookworm-security main",
    "http://deb.debian.org/debian trixie main",
    "http://deb.debian.org/debian trixie-backports main",
];

/// One kernel, unpacked.
pub(crate) struct Kernel {
    /// As asked for: `6.1`.
    pub(super) series: String,
    pub(super) package: String,
    /// As in `lib/modules`.
    pub(super) release: String,
    /// What the package put into `/`.
    pub(super) root: PathBuf,
    /// Room for what is made from it.
    pub(super) directory: PathBuf,
}

impl Kernel {
    /// Newer packages keep it beside the modules.
    pub(super) fn image(&self) -> PathBuf {
        let old = self.root.join("boot").join(format!("vmlinuz-{}", self.release));
        if old.exists() { old } else { self.modules().join("vmlinuz") }
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

/// The newest kernel of the series, fetched if it is not here yet.
///
/// # Errors
/// Nobody has such a package, or it can't be fetched.
pub(super) fn kernel(all: &Path, series: &str) -> Result<Kernel> {
    let directory = all.join(series);
    let marker = directory.join("package");
    if !marker.exists() {
        let source = Source::find(all, series)?;
        eprintln!("xtask: fetching {}", source.package);
        source.unpack(&directory).with_context(|| format!("fetching {}", source.package))?;
        fs::write(&marker, &source.package)?;
    }
    let root = directory.join("root");
    Ok(Kernel {
        series: series.to_owned(),
        package: fs::read_to_string(&marker)?,
        release: release(&root)?,
        root,
        directory,
    })
}

/// A package, and options that make apt see it.
struct Source {
    package: String,
    options: Vec<String>,
}

impl Source {
    /// Looks into this host's sources, then into the archive.
    fn find(all: &Path, series: &str) -> Result<Self> {
        let own = vec![];
        // An index that is older than the mirror's names packages that are gone.
        let _ = apt("apt-get", &own, &["update", "-qq"]);
        if let Some(package) = newest(&own, series) {
            return Ok(Self { package, options: own });
        }
        let options = elsewhere(all)?;
        let updated = apt("apt-get", &options, &["update", "-qq"]);
        match newest(&options, series) {
            Some(package) => Ok(Self { package, options }),
            None => {
                updated.context("asking deb.debian.org for kernels (is the network up?)")?;
                anyhow::bail!(
                    "no package linux-image-{series}*-cloud-amd64, neither in this host's apt sources nor on \
                     deb.debian.org; `apt-cache search cloud-amd64` lists what there is"
                )
            }
        }
    }

    fn unpack(&self, directory: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(directory);
        let root = directory.join("root");
        fs::create_dir_all(&root)?;
        let mut download = command("apt-get", &self.options);
        run(download.args(["download", "-qq"]).args(self.packages()).current_dir(directory))?;
        for entry in fs::read_dir(directory)?.flatten() {
            let package = entry.path();
            if package.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
                fs::remove_file(package)?;
            }
        }
        if root.join("usr/lib/modules").exists() && !root.join("lib").exists() {
            symlink("usr/lib", root.join("lib"))?;
        }
        // Debian's package leaves this to its installation.
        run(Command::new("depmod").arg("-b").arg(&root).arg(release(&root)?))
    }

    /// The package, and those that newer kernels put their files into.
    fn packages(&self) -> Vec<String> {
        let found = command("apt-cache", &self.options).args(["depends", "--important", &self.package]).output();
        let text = found.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let words = text.split_whitespace().map(str::to_owned);
        let parts = words.filter(|word| word.starts_with("linux-binary-") || word.starts_with("linux-modules-"));
        parts.chain([self.package.clone()]).collect()
    }
}

/// The kernel's release, which its directory of modules is named after.
fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let entry = fs::read_dir(&modules).ok().and_then(|mut entries| entries.next());
    let entry = entry.with_context(|| format!("the package has no modules in {}", modules.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// Sources, indices and cache of our own; the host's are left alone.
fn elsewhere(all: &Path) -> Result<Vec<String>> {
    let apt = all.join("apt");
    for directory in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(apt.join(directory))?;
    }
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let lines = ELSEWHERE.map(|source| format!("deb [arch=amd64 signed-by={keys}] {source}\n"));
    fs::write(apt.join("sources.list"), lines.concat())?;
    let apt = apt.display();
    let settings = [
        format!("Dir::Etc::sourcelist={apt}/sources.list"),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={apt}/lists"),
        format!("Dir::Cache={apt}"),
    ];
    Ok(settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]).collect())
}

/// The newest signed kernel of the series, for virtual machines: small, and with every module that is needed.
fn newest(options: &[String], series: &str) -> Option<String> {
    let found = command("apt-cache", options).args(["pkgnames", &format!("linux-image-{series}.")]).output().ok()?;
    let names = String::from_utf8_lossy(&found.stdout).into_owned();
    names.lines().filter(|name| name.ends_with("-cloud-amd64")).max_by_key(|name| numbers(name)).map(str::to_owned)
}

/// `linux-image-6.12.9+deb12-…` is older than `linux-image-6.12.11+deb12-…`.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn command(program: &str, options: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(options);
    command
}

fn apt(program: &str, options: &[String], args: &[&str]) -> Result<()> {
    run(command(program, options).args(args))
}

/// Runs a command to its end; its error says what it printed.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("linux-image-6.12.9+deb12-cloud-amd64") < numbers("linux-image-6.12.11+deb12-cloud-amd64"));
        assert!(numbers("linux-image-6.1.0-9-cloud-amd64") < numbers("linux-image-6.1.0-56-cloud-amd64"));
    }
}
