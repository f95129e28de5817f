//! Taking the data plane down.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::pins::{Lock, Pins};
use super::syscall;
use crate::control::api::Detached;

/// Takes the program off every interface and removes all pins below `pin_dir`. With no pins left the kernel frees
/// program and maps.
pub fn detach(pin_dir: &Path) -> Result<Detached> {
    let mut removed = Vec::new();
    if let Some(pins) = Pins::existing(pin_dir) {
        let _ = detach(&pins.shadow());
        for (interface, mode) in pins.linked_interfaces() {
            let _ = syscall::detach_link(&pins.link(&interface, &mode));
            removed.push(format!("XDP program on {interface} ({mode})"));
        }
        for directory in [pins.links(), pins.tables(), pins.maps()] {
            let count = remove(&directory)?;
            if count > 0 {
                removed.push(format!("{count} pins in {}", directory.display()));
            }
        }
        fs::remove_dir(pins.root()).with_context(|| format!("removing {}", pins.root().display()))?;
    }
    Ok(Detached { removed, kept: Vec::new() })
}

/// As [`detach`], where no controller answers: not while one holds the pins all the same.
pub fn detach_unattended(pin_dir: &Path) -> Result<Detached> {
    let _lock = match Pins::existing(pin_dir) {
        Some(pins) => Some(Lock::take_pins(pins.root())?),
        None => None,
    };
    detach(pin_dir)
}

/// Removes a directory of pins and says how many there were.
fn remove(directory: &Path) -> Result<usize> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(0) };
    let mut count = 0;
    for entry in entries.flatten() {
        fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        count += 1;
    }
    fs::remove_dir(directory).with_context(|| format!("removing {}", directory.display()))?;
    Ok(count)
}
