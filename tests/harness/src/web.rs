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
        self.service(weights).text()
    }

    /// The same, for tests that want something else in it.
    pub fn service(&self, weights: &[u32]) -> Service {
        Service {
            node: String::new(),
            port: PORT,
            more: String::new(),
            check: "kind = \"http\"\npath = \"/healthz\"\n".to_owned(),
            times: times("200ms", "150ms", 2),
            each: String::new(),
            weights: weights.to_vec(),
        }
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

/// The config of the plain case, and what a test wants otherwise. `Controller::configure` puts it behind a `[node]` table.
pub struct Service {
    node: String,
    port: u16,
    more: String,
    check: String,
    times: String,
    each: String,
    weights: Vec<u32>,
}

impl Service {
    /// Further lines of `[node]`, and tables behind them.
    #[must_use]
    pub fn node(mut self, lines: &str) -> Self {
        self.node += &format!("{lines}\n");
        self
    }

    /// Further lines of `[[service]]`, and tables of it.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more += &format!("{lines}\n");
        self
    }

    /// Further lines of every backend.
    #[must_use]
    pub fn each(mut self, lines: &str) -> Self {
        self.each += &format!("{lines}\n");
        self
    }

    /// The echo server's port instead of the HTTP server's, which is still the one that is checked.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.port = PORT + 1;
        self.check += &format!("port = {PORT}\n");
        self
    }

    /// Other times of the check.
    #[must_use]
    pub fn checked_each(mut self, interval: &str, timeout: &str, fall: u32) -> Self {
        self.times = times(interval, timeout, fall);
        self
    }

    /// No check: whatever becomes of a server, it goes on to get flows.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        "kind = \"none\"\n".clone_into(&mut self.check);
        self.times.clear();
        self
    }

    pub fn text(&self) -> String {
        let Self { node, port, more, check, times, each, weights } = self;
        let mut text = format!(
            "{{node}}\n{node}[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
             address = \"{VIP4}\"\nport = {port}\nforward = \"l2\"\n{more}[service.health]\n{check}{times}"
        );
        for (i, weight) in weights.iter().enumerate() {
            let address = Lab::backend4(i);
            text +=
                &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n{each}");
        }
        text
    }
}

fn times(interval: &str, timeout: &str, fall: u32) -> String {
    format!("interval = \"{interval}\"\ntimeout = \"{timeout}\"\nrise = 2\nfall = {fall}\n")
}
