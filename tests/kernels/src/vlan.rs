//! A backend behind a VLAN device (802.1Q) of the balancer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};

use super::network::{Network, PORT};
use super::path::{interfaces, service};
use super::{Cases, Outcome};
use harness::client;
use harness::controller::Controller;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 41));
const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 11));
const CONNECTIONS: usize = 10;

pub(super) fn all(cases: &mut Cases<'_>, network: &Network) {
    cases.run("l2 to a backend behind a VLAN, native", || {
        devices(network)?;
        tagged(network, "native")
    });
    cases.run("l2 to a backend behind a VLAN, generic", || tagged(network, "generic"));
}

fn devices(network: &Network) -> Result<()> {
    for (namespace, address) in [(&network.lab.balancer, "10.78.0.2/24"), (&network.lab.backends[0], "10.78.0.11/24")] {
        namespace.ip("link add link eth0 name vlan100 type vlan id 100")?;
        namespace.ip(&format!("addr add {address} dev vlan100"))?;
        namespace.ip("link set vlan100 up")?;
    }
    // Clients are reached by the other interface.
    network.lab.backends[0].sh("sysctl -qw net.ipv4.conf.vlan100.rp_filter=0")
}

fn tagged(network: &Network, mode: &str) -> Result<Outcome> {
    let text = interfaces(mode) + &service("vlan", "l2", VIP, &[("b0".to_owned(), BACKEND)]);
    let controller = Controller::start(&network.lab.balancer, &text)?;
    controller.wait_all_up()?;
    let counts = client::requests(&network.lab.client, SocketAddr::new(VIP, PORT), CONNECTIONS, CONNECTIONS)?;
    let dropped = controller.status()?.dropped;
    ensure!(
        counts.failed == 0,
        "{} of {CONNECTIONS} connections failed; dropped by reason: {dropped:?}",
        counts.failed
    );
    Ok(Outcome::works(format!("{CONNECTIONS} connections")))
}
