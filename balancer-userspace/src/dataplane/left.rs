//! Programs of balancer that are attached to interfaces, whoever attached them, and where their links are pinned.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::loaded_programs;

use super::load::PROGRAM;
use super::pins::Pins;
use super::syscall;

/// Below it BPF file systems are looked through for pins.
const HOME: &str = "/sys/fs/bpf";
/// How deep.
const DEPTH: usize = 4;

/// A program of balancer on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub interface: String,
    /// Unknown where its link is pinned in a BPF file system that is not mounted here.
    pub pin_dir: Option<PathBuf>,
}

/// Those of `attached`, interfaces and the numbers of programs on them, that are balancer's.
pub fn left(attached: &[(String, u32)]) -> Vec<Left> {
    let ours: Vec<u32> = loaded_programs()
        .flatten()
        .filter(|program| program.name_as_str() == Some(PROGRAM))
        .map(|program| program.id())
        .collect();
    let mut directories = Vec::new();
    pin_dirs(Path::new(HOME), DEPTH, &mut directories);
    let of = |(interface, program): &(String, u32)| Left {
        interface: interface.clone(),
        pin_dir: directories.iter().find(|directory| pins_link_of(directory, interface, *program)).cloned(),
    };
    attached.iter().filter(|(_, program)| ours.contains(program)).map(of).collect()
}

/// Directories that a controller may have pinned in.
fn pin_dirs(below: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if below.join("links").is_dir() {
        found.push(below.to_owned());
    } else if depth > 0 {
        for entry in fs::read_dir(below).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pin_dirs(&entry.path(), depth - 1, found);
            }
        }
    }
}

fn pins_link_of(directory: &Path, interface: &str, program: u32) -> bool {
    let Some(pins) = Pins::existing(directory) else { return false };
    let of = |(name, mode): &(String, String)| {
        name == interface && syscall::xdp_link(&pins.link(name, mode)).is_ok_and(|(number, _)| number == program)
    };
    pins.linked_interfaces().iter().any(of)
}
