//! Which compiler and linker build the eBPF crates: the first of several places that has what it takes, `rust-src`
//! above all, because `core` is compiled for the BPF target.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// How to call cargo for the BPF target.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// What a person would call it.
    pub name: String,
    /// Program and leading arguments, such as `rustup run nightly cargo`.
    pub cargo: Vec<String>,
    /// The compiler, where cargo would not find it by itself.
    pub rustc: Option<PathBuf>,
    /// Stable compilers need `RUSTC_BOOTSTRAP=1` for `-Z build-std`.
    pub bootstrap: bool,
}

/// What to do where nothing fits.
pub const ADVICE: &str = "on Debian 12: apt-get update && apt-get install rustc-web cargo-web rust-web-src; \
     elsewhere: rustup toolchain install nightly --component rust-src; `cargo xtask setup` tries it";

pub const LINKER_ADVICE: &str = "cargo install bpf-linker --locked, or on Debian 12: apt-get install llvm-22-dev && \
     LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --locked --no-default-features --features llvm-22; \
     `cargo xtask setup` does it";

impl Toolchain {
    /// In this order: `BALANCER_EBPF_TOOLCHAIN`, rustup's nightly, the current toolchain, Debian's in /usr.
    pub fn find() -> Result<Self> {
        if let Some(chosen) = env::var_os("BALANCER_EBPF_TOOLCHAIN") {
            let chosen = chosen.to_string_lossy().into_owned();
            let found = if chosen.contains('/') { Self::at(Path::new(&chosen)) } else { Self::rustup(&chosen) };
            return match found {
                Some(toolchain) => Ok(toolchain),
                None => bail!("BALANCER_EBPF_TOOLCHAIN={chosen}: no such toolchain, or it has no rust-src"),
            };
        }
        match Self::rustup("nightly").or_else(Self::current).or_else(|| Self::at(Path::new("/usr"))) {
            Some(toolchain) => Ok(toolchain),
            None => bail!(
                "no Rust toolchain with rust-src for the eBPF programs: looked at rustup's nightly, the current \
                 toolchain and /usr; {ADVICE}"
            ),
        }
    }

    fn rustup(name: &str) -> Option<Self> {
        let run = |program: &str| vec!["rustup".to_owned(), "run".to_owned(), name.to_owned(), program.to_owned()];
        has_source(&run("rustc")).then(|| Self {
            name: format!("rustup's {name}"),
            cargo: run("cargo"),
            rustc: None,
            bootstrap: name != "nightly",
        })
    }

    fn current() -> Option<Self> {
        has_source(&["rustc".to_owned()]).then(|| Self {
            name: "the current toolchain".to_owned(),
            cargo: vec!["cargo".to_owned()],
            rustc: None,
            bootstrap: true,
        })
    }

    /// One whose programs are below `prefix`.
    fn at(prefix: &Path) -> Option<Self> {
        let program = |name: &str| prefix.join("bin").join(name);
        let rustc = program("rustc");
        (program("cargo").exists() && has_source(&[rustc.display().to_string()])).then(|| Self {
            name: format!("the toolchain in {}", prefix.display()),
            cargo: vec![program("cargo").display().to_string()],
            rustc: Some(rustc),
            bootstrap: true,
        })
    }
}

/// Whether the compiler's sources are installed, where `-Z build-std` looks for them.
fn has_source(rustc: &[String]) -> bool {
    let mut command = Command::new(&rustc[0]);
    let output = scrub(&mut command).args(&rustc[1..]).args(["--print", "sysroot"]).output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    output.status.success() && core.exists()
}

/// In this order: `BPF_LINKER`, PATH, cargo's own directory.
pub fn linker() -> Result<PathBuf> {
    if let Some(chosen) = env::var_os("BPF_LINKER") {
        return Ok(chosen.into());
    }
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(cargo_home.map(|home| home.join("bin")));
    match directories.map(|directory| directory.join("bpf-linker")).find(|linker| linker.is_file()) {
        Some(linker) => Ok(linker),
        None => bail!("bpf-linker is neither on PATH nor in cargo's bin directory; {LINKER_ADVICE}"),
    }
}

/// Takes away what an outer cargo or rustup sets, which would confuse the inner one.
pub(crate) fn scrub(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 4] = ["CARGO_HOME", "CARGO_NET", "CARGO_HTTP", "CARGO_REGISTR"];
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let cargo = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
        let other =
            ["RUSTUP_TOOLCHAIN", "TARGET", "HOST", "OUT_DIR", "PROFILE", "OPT_LEVEL", "DEBUG", "LD_LIBRARY_PATH"];
        if cargo
            || name.starts_with("RUSTC")
            || name.starts_with("RUSTDOC")
            || name == "RUSTFLAGS"
            || other.contains(&&*name)
        {
            command.env_remove(&name);
        }
    }
    command
}
