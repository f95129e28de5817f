//! Client, balancer and four backends, with addresses of services to spare.

use anyhow::{Context, Result};

use super::receive;
use harness::lab::{BackendKind, Lab, Topology};
use harness::server::Server;

/// Where the servers listen, and the services' port: `l2` and encapsulation keep it.
pub(super) const PORT: u16 = 8000;

/// What services' addresses are taken of.
const VIPS4: &str = "192.0.2.0/24";
const VIPS6: &str = "2001:db8::/64";

pub(super) struct Network {
    pub(super) lab: Lab,
    _servers: Vec<Server>,
}

impl Network {
    /// Backends 0 and 1 have the services' addresses and take outer headers off, 2 and 3 have their own address only.
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::new(Topology::Routed, &[BackendKind::L2, BackendKind::L2, BackendKind::Nat, BackendKind::Nat])?;
        lab.client.ip(&format!("route add {VIPS4} via 10.76.0.2"))?;
        lab.client.ip(&format!("-6 route add {VIPS6} via fd76::2"))?;
        for backend in &lab.backends[..2] {
            // As many hosts have it, and as no tunnel works with.
            backend.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1")?;
        }
        for backend in &lab.backends[..2] {
            for vips in [VIPS4, VIPS6] {
                backend.ip(&format!("route add local {vips} dev lo"))?;
            }
            receive::prepare(backend).context("a backend's preparation as in docs/deploy.md")?;
        }
        let servers = lab.backends.iter().enumerate();
        let servers = servers.map(|(i, backend)| Server::start(backend, &format!("b{i}"), PORT));
        let servers = servers.collect::<Result<_>>()?;
        Ok(Self { lab, _servers: servers })
    }
}
