//! The program on an interface, and the pinned link that keeps it there.

use std::fs;

use anyhow::{Context, Result};
use aya::programs::ProgramError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode as AyaMode};

use super::load::{DataPlane, xdp};
use super::syscall;
use crate::model::XdpMode;

/// How the program sits on an interface: natively in its driver or, slower, generically behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    Native,
    Generic,
}

impl Attached {
    pub fn mode(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Native,
            Self::Generic => XdpMode::Generic,
        }
    }

    /// As the name of the directory of links.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn aya(self) -> AyaMode {
        match self {
            Self::Native => AyaMode::Driver,
            Self::Generic => AyaMode::Skb,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("there is no interface {0}; `ip link` lists them")]
    NoInterface(String),
    #[error(
        "another XDP program is attached to {0}; take it off with `ip link set dev {0} xdp off`, \
         `ip link set dev {0} xdpgeneric off`, or stop what attached it"
    )]
    Busy(String),
    #[error(
        "the driver of {0} has no native XDP; set `mode = \"generic\"` (slower) or `\"auto\"` for this interface, \
         or use another card"
    )]
    NoNative(String),
    #[error("the MTU of {0} is too large for native XDP in its driver; lower it or set `mode = \"generic\"`")]
    Mtu(String),
    #[error("attaching to {interface}: {cause}")]
    Other { interface: String, cause: String },
}

impl DataPlane {
    /// Puts the program on the interface; where an earlier controller's program is, it is replaced atomically.
    pub fn attach(&mut self, interface: &str, wanted: XdpMode) -> Result<Attached, AttachError> {
        let candidates: &[Attached] = match wanted {
            XdpMode::Auto => &[Attached::Native, Attached::Generic],
            XdpMode::Native => &[Attached::Native],
            XdpMode::Generic => &[Attached::Generic],
        };
        for mode in [Attached::Native, Attached::Generic] {
            if !candidates.contains(&mode) {
                self.unpin_link(interface, mode);
            } else if self.replace(interface, mode).unwrap_or(false) {
                return Ok(mode);
            }
        }
        let mut outcome = Err(AttachError::NoInterface(interface.to_owned()));
        for mode in candidates {
            outcome = self.attach_anew(interface, *mode);
            if !matches!(outcome, Err(AttachError::NoNative(_) | AttachError::Mtu(_))) {
                break;
            }
        }
        outcome
    }

    /// Interfaces with a pinned link, and how it sits there.
    pub fn linked_interfaces(&self) -> Vec<(String, String)> {
        self.pins.linked_interfaces()
    }

    /// Takes the program off the interface.
    pub fn detach_interface(&mut self, interface: &str) {
        for mode in [Attached::Native, Attached::Generic] {
            self.unpin_link(interface, mode);
        }
    }

    fn unpin_link(&self, interface: &str, mode: Attached) {
        let path = self.pins.link(interface, mode.as_str());
        // A link whose interface went is detached already.
        let _ = syscall::detach_link(&path);
        let _ = fs::remove_file(path);
    }

    /// Whether a pinned link was there, belongs to the interface as it is now, and carries our program now.
    fn replace(&mut self, interface: &str, mode: Attached) -> Result<bool> {
        let path = self.pins.link(interface, mode.as_str());
        if !path.exists() {
            return Ok(false);
        }
        let pinned = PinnedLink::from_pin(&path).context("opening the pinned link")?;
        let link = XdpLink::try_from(FdLink::from(pinned)).context("the pinned link is not one of XDP")?;
        // A link of an interface that went (and perhaps came back as another) is dead: the update fails.
        let alive = xdp(&mut self.program)?.attach_to_link(link).is_ok();
        if !alive {
            self.unpin_link(interface, mode);
        }
        Ok(alive)
    }

    fn attach_anew(&mut self, interface: &str, mode: Attached) -> Result<Attached, AttachError> {
        let other = |cause: String| AttachError::Other { interface: interface.to_owned(), cause };
        let program = xdp(&mut self.program).map_err(|error| other(error.to_string()))?;
        let id = program.attach(interface, mode.aya()).map_err(|error| name(interface, mode, error))?;
        let link = program.take_link(id).map_err(|error| other(error.to_string()))?;
        // Where the kernel has no links for XDP, aya falls back to an attachment that dies with this process.
        let link = FdLink::try_from(link).map_err(|_| other("this kernel has no BPF links for XDP".to_owned()))?;
        link.pin(self.pins.link(interface, mode.as_str()))
            .map_err(|error| other(format!("pinning the link: {error}")))?;
        Ok(mode)
    }
}

fn name(interface: &str, mode: Attached, error: ProgramError) -> AttachError {
    let interface = interface.to_owned();
    let errno = match &error {
        ProgramError::UnknownInterface { .. } => return AttachError::NoInterface(interface),
        ProgramError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    };
    match errno {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(interface),
        Some(libc::EOPNOTSUPP) if mode == Attached::Native => AttachError::NoNative(interface),
        Some(libc::ERANGE | libc::EINVAL) if mode == Attached::Native => AttachError::Mtu(interface),
        Some(libc::ENODEV) => AttachError::NoInterface(interface),
        _ => {
            let mut cause = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                cause = format!("{cause}: {inner}");
                source = inner.source();
            }
            AttachError::Other { interface, cause }
        }
    }
}
