//! The installed files, as they lie below `/`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask::ebpf;

use super::{Release, licences, read, run};

const DOCS: &str = "usr/share/doc/balancer";
const GUIDES: [&str; 17] = [
    "docs/config.md",
    "docs/api.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/contributing.md",
    "docs/cli.md",
    "docs/demo.txt",
    "docs/deploy.md",
    "docs/doctor.md",
    "docs/how-it-works.md",
    "docs/kernels.md",
    "docs/limits.md",
    "docs/metrics.md",
    "docs/operate.md",
    "docs/recipes.md",
    "docs/pipelines.md",
    "docs/runbook.md",
];
const EXAMPLES: [&str; 6] = [
    "deploy/balancer.toml",
    "deploy/rollout",
    "deploy/alerts.yml",
    "deploy/alerts_test.yml",
    "deploy/prometheus.yml",
    "deploy/alertmanager.yml",
];
/// Each shell, and where it looks for the completions of a command.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/balancer"),
    ("zsh", "usr/share/zsh/vendor-completions/_balancer"),
    ("fish", "usr/share/fish/vendor_completions.d/balancer.fish"),
];

pub(super) struct Tree {
    root: tempfile::TempDir,
}

impl Tree {
    pub(super) fn of(release: &Release) -> Result<Self> {
        let tree = Self { root: tempfile::tempdir().context("making a directory for the installed files")? };
        tree.program(release)?;
        tree.manual(release)?;
        tree.service()?;
        tree.documents()?;
        tree.licences()?;
        Ok(tree)
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Without its symbols.
    fn program(&self, release: &Release) -> Result<()> {
        let program = self.path("usr/bin/balancer")?;
        let mut strip = Command::new("strip");
        strip.args(["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note"]);
        run(strip.arg("-o").arg(&program).arg(&release.binary))?;
        mode(&program, 0o755)
    }

    /// What the program says of itself.
    fn manual(&self, release: &Release) -> Result<()> {
        let pages = tempfile::tempdir()?;
        run(Command::new(&release.binary).arg("manual").arg(pages.path()))?;
        for page in fs::read_dir(pages.path())? {
            let name = page?.file_name().to_string_lossy().into_owned();
            let section = name.rsplit('.').next().unwrap_or("8");
            let page = read(&pages.path().join(&name))?;
            self.compressed(&format!("usr/share/man/man{section}/{name}"), &page)?;
        }
        for (shell, place) in COMPLETIONS {
            self.text(place, &run(Command::new(&release.binary).args(["completions", shell]))?)?;
        }
        Ok(())
    }

    fn service(&self) -> Result<()> {
        self.copy("deploy/balancer.service", "usr/lib/systemd/system/balancer.service")?;
        self.copy("deploy/balancer.sysusers", "usr/lib/sysusers.d/balancer.conf")?;
        // For the config: `balancer init` writes the first one.
        fs::create_dir_all(self.root().join("etc/balancer"))?;
        mode(&self.root().join("etc"), 0o755)?;
        mode(&self.root().join("etc/balancer"), 0o755)
    }

    fn documents(&self) -> Result<()> {
        for guide in GUIDES {
            self.document(guide, &format!("{DOCS}/{}", file_name(guide)))?;
        }
        self.document("README.md", &format!("{DOCS}/README.md"))?;
        for example in EXAMPLES {
            self.copy(example, &format!("{DOCS}/examples/{}", file_name(example)))?;
        }
        mode(&self.root().join(DOCS).join("examples/rollout"), 0o755)?;
        self.compressed(&format!("{DOCS}/changelog.gz"), &read(&ebpf::root().join("CHANGELOG.md"))?)
    }

    fn licences(&self) -> Result<()> {
        let linked = licences::linked()?;
        self.text(&format!("{DOCS}/copyright"), &linked.copyright())?;
        self.compressed(&format!("{DOCS}/linked-crates.txt.gz"), &linked.texts())
    }

    /// A page whose links lead to where the others are installed.
    fn document(&self, from: &str, to: &str) -> Result<()> {
        let text = read(&ebpf::root().join(from))?;
        let text =
            text.replace("](docs/", "](").replace("](deploy/", "](examples/").replace("](../deploy/", "](examples/");
        self.text(to, &text.replace("](../README.md", "](README.md"))
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        let target = self.path(to)?;
        fs::copy(ebpf::root().join(from), &target).with_context(|| format!("copying {from}"))?;
        mode(&target, 0o644)
    }

    pub(super) fn text(&self, to: &str, text: &str) -> Result<()> {
        let target = self.path(to)?;
        fs::write(&target, text).with_context(|| format!("writing {}", target.display()))?;
        mode(&target, 0o644)
    }

    /// As Debian wants them: the best compression, and no time of day in it.
    pub(super) fn compressed(&self, to: &str, text: &str) -> Result<()> {
        let plain = to.strip_suffix(".gz").unwrap_or(to);
        self.text(plain, text)?;
        run(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(self.root().join(plain)))?;
        Ok(())
    }

    fn path(&self, to: &str) -> Result<PathBuf> {
        let target = self.root().join(to);
        let parent = target.parent().unwrap_or(self.root());
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        Ok(target)
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("chmod {}", path.display()))
}
