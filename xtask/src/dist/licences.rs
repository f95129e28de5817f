//! What is linked into the program, and under which licences: every crate by `cargo metadata`, the texts from the crates' own
//! files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use xtask::ebpf;

use super::run;

/// What is linked together: the program, and the XDP program in it.
const ROOTS: [&str; 2] = ["balancer-userspace", "balancer-ebpf"];
/// Names of files with a licence begin so.
const TEXTS: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// Nothing where it is linked.
    kind: Option<String>,
}

/// The linked crates that are not of this repository, and the texts of their licences.
pub(super) struct Linked {
    crates: Vec<Package>,
    /// Each text once, with who has it.
    texts: BTreeMap<String, BTreeSet<String>>,
}

pub(super) fn linked() -> Result<Linked> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(ebpf::root()).args(["metadata", "--format-version", "1", "--locked"]);
    cargo.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let metadata: Metadata = serde_json::from_str(&run(&mut cargo)?).context("reading what cargo metadata says")?;
    let reached = reached(&metadata);
    let foreign = |package: &Package| package.source.is_some() && reached.contains(&package.id);
    let mut crates: Vec<Package> = metadata.packages.into_iter().filter(foreign).collect();
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &crates {
        for text in package.texts()? {
            texts.entry(text).or_default().insert(format!("{} {}", package.name, package.version));
        }
    }
    Ok(Linked { crates, texts })
}

/// Crates that the roots link, however far away.
fn reached(metadata: &Metadata) -> BTreeSet<String> {
    let nodes: HashMap<&str, &Node> = metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let roots = metadata.packages.iter().filter(|package| ROOTS.contains(&package.name.as_str()));
    let mut waiting: Vec<&str> = roots.map(|package| package.id.as_str()).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id.to_owned()) {
            let dependencies = nodes.get(id).map_or(&[][..], |node| &node.deps);
            let linked = dependencies.iter().filter(|dependency| dependency.is_linked());
            waiting.extend(linked.map(|dependency| dependency.pkg.as_str()));
        }
    }
    reached
}

impl Dependency {
    fn is_linked(&self) -> bool {
        self.dep_kinds.iter().any(|kind| kind.kind.is_none())
    }
}

impl Package {
    fn texts(&self) -> Result<Vec<String>> {
        let directory = Path::new(&self.manifest_path).parent().unwrap_or(Path::new(""));
        let files = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
        let mut paths: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).filter(|path| is_text(path)).collect();
        paths.sort();
        let read =
            |path: &_| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).replace('\r', "").trim().to_owned());
        paths
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .with_context(|| format!("reading the licences of {}", self.name))
    }
}

fn is_text(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
    path.is_file() && TEXTS.iter().any(|begin| name.starts_with(begin))
}

impl Linked {
    /// Debian's `copyright`: the product's own terms, and which crates are linked under which.
    pub(super) fn copyright(&self) -> String {
        let mut out = String::from(OWN);
        out += "\nThe program contains the Rust standard library (MIT OR Apache-2.0, by the Rust project's developers) and\n\
                these crates; the texts of their licences are in linked-crates.txt.gz beside this file:\n\n";
        for Package { name, version, license, repository, .. } in &self.crates {
            let license = license.as_deref().unwrap_or("see its text");
            let _ = writeln!(out, "  {name} {version}: {license}");
            if let Some(repository) = repository {
                let _ = writeln!(out, "    {repository}");
            }
        }
        out
    }

    pub(super) fn texts(&self) -> String {
        let mut out = String::from("Licences of the crates that are linked into balancer, each text once.\n");
        for (text, holders) in &self.texts {
            let holders: Vec<&str> = holders.iter().map(String::as_str).collect();
            let _ = write!(out, "\n{}\n{}\n\n{text}\n", "=".repeat(80), holders.join(", "));
        }
        out
    }
}

const OWN: &str = "\
balancer, a layer-4 load balancer in XDP

Copyright 2026 the balancer maintainers

balancer is licensed under either of the Apache License, Version 2.0, or the MIT License, at your option. On Debian systems
the text of the Apache License, Version 2.0, is in /usr/share/common-licenses/Apache-2.0. The MIT License:

  Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation
  files (the \"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy,
  modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
  Software is furnished to do so, subject to the following conditions:

  The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
  Software.

  THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
  WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
  COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
  OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

The XDP program in it is licensed to the kernel as \"Dual MIT/GPL\"; on Debian systems the text of the GNU General Public
License, version 2, is in /usr/share/common-licenses/GPL-2.
";
