//! Where things are pinned, and who may touch them.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Paths below one controller's pin directory.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the directory, mounting a BPF file system on `/sys/fs/bpf` where that is still missing.
    pub fn create(root: &Path) -> Result<Self> {
        let pins = Self { root: root.to_owned() };
        let home = Path::new("/sys/fs/bpf");
        if root.starts_with(home) && !is_bpffs(home) {
            mount(Some("bpf"), home, Some("bpf"), MsFlags::empty(), None::<&str>)
                .context("mounting a BPF file system on /sys/fs/bpf; try `mount -t bpf bpf /sys/fs/bpf`")?;
        }
        for directory in [pins.maps(), pins.tables(), pins.links()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("making the pin directory {}", directory.display()))?;
        }
        if !is_bpffs(root) {
            bail!(
                "`node.pin_dir` = {} is not on a BPF file system; choose a directory below /sys/fs/bpf",
                root.display()
            );
        }
        Ok(pins)
    }

    /// Those that are there, for taking them away.
    pub fn existing(root: &Path) -> Option<Self> {
        (root.is_dir() && is_bpffs(root)).then(|| Self { root: root.to_owned() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Pins of the program's shadow, while it is being loaded.
    pub fn shadow(&self) -> PathBuf {
        self.root.join("shadow")
    }

    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// Pin of the table at `place` of the map of tables.
    pub fn table(&self, place: u32) -> PathBuf {
        self.tables().join(place.to_string())
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Pin of the link of an interface; `mode` is `native` or `generic`.
    pub fn link(&self, interface: &str, mode: &str) -> PathBuf {
        // The BPF file system refuses names with a dot, which VLAN interfaces have.
        self.links().join(format!("{mode}-{}", interface.replace('.', "%")))
    }

    /// Interfaces that have a pinned link, with the mode.
    pub fn linked_interfaces(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        let split =
            |name: String| Some((name.split_once('-')?.1.replace('%', "."), name.split_once('-')?.0.to_owned()));
        entries.filter_map(|entry| split(entry.file_name().to_string_lossy().into_owned())).collect()
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Held while a controller runs, so that a second one can't touch the same state.
#[derive(Debug)]
pub struct Lock {
    _locks: Vec<Flock<OwnedFd>>,
}

impl Lock {
    /// Takes the pin directory, which is made by now, and the state directory, where there is one.
    pub fn take(state_dir: &Path, pin_dir: &Path) -> Result<Self> {
        // A state directory that the disk does not give is nobody's.
        let state = if state_dir.is_dir() { Some(lock(state_dir)?) } else { None };
        Ok(Self { _locks: state.into_iter().chain([lock(pin_dir)?]).collect() })
    }

    /// Takes the pin directory alone.
    pub fn take_pins(pin_dir: &Path) -> Result<Self> {
        Ok(Self { _locks: vec![lock(pin_dir)?] })
    }
}

fn lock(directory: &Path) -> Result<Flock<OwnedFd>> {
    let file = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    Flock::lock(OwnedFd::from(file), FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => anyhow::anyhow!(
            "another controller uses {}; stop it first, or give this one its own `node.state_dir`, `node.pin_dir` and \
             `node.control_socket`",
            directory.display()
        ),
        other => anyhow::anyhow!("locking {}: {other}", directory.display()),
    })
}
