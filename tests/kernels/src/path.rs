//! Ways from client to backends and back: forwarding modes and families of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::network::{Network, PORT};
use super::{Cases, Outcome, change, receive};
use harness::client;
use harness::controller::Controller;
use harness::lab::Lab;

/// Connections that each path must carry.
const CONNECTIONS: usize = 60;
/// And bytes on one connection, both ways: several segments of full size.
const BYTES: usize = 200_000;

/// A service of its own for a forwarding mode between these families.
pub(super) struct Path {
    pub(super) name: &'static str,
    forward: &'static str,
    /// Number of the service's address.
    vip: u8,
    vip_ipv6: bool,
    backend_ipv6: bool,
    /// Backends, by place in the lab.
    backends: [usize; 2],
    /// The tunnel device that packets come out of at the backend.
    device: Option<&'static str>,
    /// Further keys of the service.
    more: &'static str,
}

const fn plain(name: &'static str, forward: &'static str, vip: u8, ipv6: bool, backends: [usize; 2]) -> Path {
    Path { name, forward, vip, vip_ipv6: ipv6, backend_ipv6: ipv6, backends, device: None, more: "" }
}

pub(super) const fn tunnel(
    name: &'static str,
    forward: &'static str,
    vip: u8,
    (vip_ipv6, backend_ipv6): (bool, bool),
    device: &'static str,
) -> Path {
    Path { name, forward, vip, vip_ipv6, backend_ipv6, backends: [0, 1], device: Some(device), more: "" }
}

const NATIVE: [Path; 8] = [
    plain("l2-ipv4", "l2", 21, false, [0, 1]),
    plain("l2-ipv6", "l2", 22, true, [0, 1]),
    plain("nat-ipv4", "nat", 23, false, [2, 3]),
    plain("nat-ipv6", "nat", 24, true, [2, 3]),
    tunnel("ipip-4in4", "ipip", 25, (false, false), "tunl0"),
    tunnel("ipip-6in4", "ipip", 26, (true, false), "sit0"),
    tunnel("ipip-4in6", "ipip", 27, (false, true), "ipip6"),
    tunnel("ipip-6in6", "ipip", 28, (true, true), "ipip6"),
];

const GENERIC: [Path; 3] = [
    plain("generic-l2-ipv4", "l2", 51, false, [0, 1]),
    plain("generic-nat-ipv6", "nat", 52, true, [2, 3]),
    tunnel("generic-ipip-4in4", "ipip", 53, (false, false), "tunl0"),
];

impl Path {
    /// Of `gue`.
    pub(super) const fn variant_1(self) -> Self {
        Self { more: "gue = { variant = 1 }\n", ..self }
    }

    pub(super) fn address(&self) -> SocketAddr {
        let vip = if self.vip_ipv6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.vip.into()))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, self.vip))
        };
        SocketAddr::new(vip, PORT)
    }

    fn service(&self) -> String {
        let backend = |i: usize| (format!("b{i}"), Lab::backend(i, self.backend_ipv6));
        let text = service(self.name, self.forward, self.address().ip(), &self.backends.map(backend));
        text.replacen("[service.health]\n", &format!("{}[service.health]\n", self.more), 1)
    }

    /// Real connections, both backends, whole bodies, and through the device that they should come out of.
    pub(super) fn carries(&self, network: &Network) -> Result<Outcome> {
        let came_out = || -> Result<u64> {
            let Some(device) = self.device else { return Ok(0) };
            self.backends.iter().map(|i| receive::received(&network.lab.backends[*i], device)).sum()
        };
        let before = came_out()?;
        let counts = client::requests(&network.lab.client, self.address(), CONNECTIONS, 8)?;
        ensure!(counts.failed == 0, "{} of {CONNECTIONS} connections failed: {counts:?}", counts.failed);
        for i in self.backends {
            ensure!(counts.of(&format!("b{i}")) > 0, "b{i} got no connection: {counts:?}");
        }
        self.moves_bytes(network)?;
        let mut said = format!("{CONNECTIONS} connections, {} kB both ways", BYTES / 1000);
        if let Some(device) = self.device {
            let packets = came_out()? - before;
            ensure!(packets > 0, "nothing came out of {device}");
            said += &format!(", {packets} packets out of {device}");
        }
        Ok(Outcome::works(said))
    }

    fn moves_bytes(&self, network: &Network) -> Result<()> {
        let address = self.address();
        let (down, up) = network.lab.client.block_on(|| async move {
            let down = client::http(address, "GET", &format!("/bytes/{BYTES}"), Vec::new()).await;
            (down, client::http(address, "POST", "/sink", vec![1; BYTES]).await)
        })?;
        ensure!(down.context("downloading")?.len() == BYTES, "not all bytes came down");
        let answer = up.context("uploading")?;
        ensure!(*answer == *format!("{BYTES} {BYTES}").as_bytes(), "not all bytes came up: {answer:?}");
        Ok(())
    }
}

/// The part of a config that is one service.
pub(super) fn service(name: &str, forward: &str, vip: IpAddr, backends: &[(String, IpAddr)]) -> String {
    let mut text = format!(
        "[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddress = \"{vip}\"\nport = {PORT}\nforward = \"{forward}\"\n\
         table_size = 1009\n[service.health]\nkind = \"tcp\"\ninterval = \"2s\"\ntimeout = \"1s\"\n"
    );
    for (name, address) in backends {
        text += &format!("[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    text
}

/// The part of a config that is the interfaces, to be attached to as `mode` says.
pub(super) fn interfaces(mode: &str) -> String {
    ["eth0", "eth1"].map(|name| format!("[[interface]]\nname = \"{name}\"\nmode = \"{mode}\"\n")).concat()
}

/// A config with these paths.
pub(super) fn config(mode: &str, paths: &[Path]) -> String {
    interfaces(mode) + &paths.iter().map(Path::service).collect::<String>()
}

/// Waits until every backend takes connections, for longer than a fast machine needs.
pub(super) fn ready(controller: &Controller<'_>) -> Result<()> {
    let takes_flows = |share: Option<f64>| share.is_some_and(|share| share > 0.0);
    controller.wait_for("all backends take connections", Duration::from_secs(30), |status| {
        status.services.iter().flat_map(|service| &service.backends).all(|backend| takes_flows(backend.share.kernel))
    })?;
    Ok(())
}

/// A controller for these paths, and each of them as a case.
pub(super) fn all<'n>(
    cases: &mut Cases<'_>,
    network: &'n Network,
    mode: &str,
    paths: &[Path],
) -> Option<Controller<'n>> {
    let mut started = None;
    let works = cases.run(&format!("controller of {} services, {mode}", paths.len()), || {
        let controller = started.insert(Controller::start(&network.lab.balancer, &config(mode, paths))?);
        ready(controller)?;
        Ok(Outcome::works(""))
    });
    for path in paths.iter().filter(|_| works) {
        cases.run(path.name, || path.carries(network));
    }
    started.filter(|_| works)
}

pub(super) fn native(cases: &mut Cases<'_>, network: &Network) {
    if let Some(mut controller) = all(cases, network, "native", &NATIVE) {
        change::all(cases, network, &mut controller, &NATIVE[0]);
    }
}

/// The same program behind the driver.
pub(super) fn generic(cases: &mut Cases<'_>, network: &Network) {
    all(cases, network, "generic", &GENERIC);
}
