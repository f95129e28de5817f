//! The plain case that most tests start from: an HTTP service over `l2` backends on one switch.

use std::net::SocketAddr;

use anyhow::Result;

use crate::client::{self, Counts};
use crate::lab::{BackendKind, Lab, Topology, VIP4};
use crate::server::Server;

pub const PORT: u16 = 8000;

pub struct Web {
    pub lab: Lab,
    pub servers: Vec<Server>,
}

impl Web {
    /// Backends `b0`, `b1`, ….
    pub fn new(backends: usize) -> Result<Self> {
        let lab = Lab::new(Topology::OneArmed, &vec![BackendKind::L2; backends])?;
        let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self { lab, servers })
    }

    /// A config with one weight for each backend.
    pub fn config(&self, weights: &[u32]) -> String {
        let mut text = format!(
            "{{node}}\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
             address = \"{VIP4}\"\nport = {PORT}\nforward = \"l2\"\n[service.health]\nkind = \"http\"\n\
             path = \"/healthz\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\nrise = 2\nfall = 2\n"
        );
        for (i, weight) in weights.iter().enumerate() {
            let address = Lab::backend4(i);
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n");
        }
        text
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(VIP4.into(), PORT)
    }

    /// HTTP requests, each on a new connection.
    pub fn requests(&self, count: usize) -> Result<Counts> {
        client::requests(&self.lab.client, self.address(), count, 32)
    }

    /// Has a backend's health check fail, or succeed again.
    pub fn set_failing(&self, backend: usize, failing: bool) -> Result<()> {
        let path = if failing { "/fail" } else { "/recover" };
        let address = SocketAddr::new(Lab::backend4(backend).into(), PORT);
        self.lab.client.block_on(|| async move { client::http(address, "POST", path, Vec::new()).await })?.map(drop)
    }
}
