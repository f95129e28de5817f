//! Who is there: a client, the balancer, four backends, two services.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use harness::client::http;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology, VIP4, VIP6};
use harness::server::Server;

const PORT: u16 = 80;
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9405);

pub const PICTURE: &str = "
   client ──┐
 balancer ──┤ switch         every box is a network namespace, every line a veth pair
 4 servers ─┘                answers go from the servers straight to the client
";

/// A service, and how its packets reach the backends.
pub struct Service {
    pub name: &'static str,
    pub forward: &'static str,
    vip: IpAddr,
    /// What a person should know about it.
    pub note: &'static str,
}

impl Service {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.vip, PORT)
    }
}

pub const SERVICES: [Service; 2] = [
    Service { name: "web", forward: "l2", vip: IpAddr::V4(VIP4), note: "IPv4, MAC address rewritten" },
    Service { name: "shop", forward: "ipip", vip: IpAddr::V6(VIP6), note: "IPv6 in IPv4" },
];

pub struct Backend {
    pub name: &'static str,
    weight: u32,
}

pub const BACKENDS: [Backend; 4] = [
    Backend { name: "server-1", weight: 100 },
    Backend { name: "server-2", weight: 200 },
    Backend { name: "server-3", weight: 300 },
    Backend { name: "server-4", weight: 400 },
];

pub struct Network {
    pub lab: Lab,
}

impl Network {
    pub fn new() -> Result<Self> {
        // Takes outer headers off where there are any, so the same server can be behind both services.
        Ok(Self { lab: Lab::new(Topology::OneArmed, &[BackendKind::Ipip; BACKENDS.len()])? })
    }

    pub fn serve(&self) -> Result<Vec<Server>> {
        let pairs = self.lab.backends.iter().zip(&BACKENDS);
        pairs.map(|(namespace, backend)| Server::start(namespace, backend.name, PORT)).collect()
    }

    /// Starts the balancer, and waits until it uses every backend.
    pub fn balance(&self) -> Result<Controller<'_>> {
        let controller = Controller::start(&self.lab.balancer, &config())?;
        controller.wait_all_up()?;
        Ok(controller)
    }

    /// How to reach the metrics, and a few of them.
    pub fn metrics(&self) -> Result<String> {
        let text = self.lab.balancer.block_on(|| async { http(METRICS, "GET", "/metrics", Vec::new()).await })??;
        let text = String::from_utf8_lossy(&text).into_owned();
        let wanted = ["balancer_backend_up{", "balancer_backend_new_flows_total{"];
        let lines = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        let shown: String = lines.map(|line| format!("     {line}\n")).collect();
        let namespace = self.lab.balancer.name();
        Ok(format!(
            "4. Metrics for Prometheus are on http://{METRICS}/metrics of the balancer's host, here a namespace\n   \
             (`cargo xtask demo --hold` keeps it running):\n\n   \
             $ ip netns exec {namespace} curl http://{METRICS}/metrics\n{shown}"
        ))
    }
}

fn config() -> String {
    let mut text = String::from("[[interface]]\nname = \"eth0\"\nmode = \"native\"\n");
    for Service { name, forward, vip, .. } in &SERVICES {
        text += &format!(
            "[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddress = \"{vip}\"\nport = {PORT}\n\
             forward = \"{forward}\"\n[service.health]\nkind = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\n\
             timeout = \"400ms\"\nrise = 2\nfall = 2\n"
        );
        for (i, Backend { name, weight }) in BACKENDS.iter().enumerate() {
            let address = Lab::backend4(i);
            text += &format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\nweight = {weight}\n");
        }
    }
    text
}
