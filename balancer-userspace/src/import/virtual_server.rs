//! IPVS's virtual servers, whichever way they were written down.

use std::net::IpAddr;

use super::At;
use super::health::Check;
use super::share::Scheduler;
use crate::model::{ForwardMode, Protocol};

#[derive(Debug, Clone)]
pub(super) struct VirtualServer {
    pub at: At,
    /// The statement that begins it.
    pub text: String,
    pub protocol: Protocol,
    pub address: IpAddr,
    /// 0: every port.
    pub port: u16,
    pub scheduler: Scheduler,
    /// Connections of one client stay together, for whatever reason.
    pub by_client: bool,
    pub servers: Vec<RealServer>,
}

#[derive(Debug, Clone)]
pub(super) struct RealServer {
    pub at: At,
    pub text: String,
    pub address: IpAddr,
    /// 0: the virtual server's.
    pub port: u16,
    pub weight: u32,
    pub forward: Forward,
    pub check: Option<Check>,
}

/// How packets reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forward {
    pub mode: ForwardMode,
    /// GUE's, where it is said.
    pub port: Option<u16>,
}

impl Forward {
    pub fn plain(mode: ForwardMode) -> Self {
        Self { mode, port: None }
    }
}
