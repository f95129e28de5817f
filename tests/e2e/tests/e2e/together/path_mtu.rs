//! Path MTU discovery end to end: a megabyte goes both ways over a connection although a link before the client, or one
//! before the backend, takes 1300 bytes only, and although both sides say in their SYNs that they take more.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer::alarm::Alarm;
use harness::capture::Capture;
use harness::client;
use harness::controller::{Controller, PATIENT};
use harness::errors::too_big;
use harness::flood::{mac, send_frames};
use harness::lab::{BackendKind, Lab, Topology, VIP4, VIP6};
use harness::netns::Namespace;
use harness::routers::{Behind, narrow_address, narrow_backend, narrow_client};
use harness::server::Server;

const PORT: u16 = 8000;
const MTU: u32 = 1300;
const MEGABYTE: usize = 1 << 20;

/// A forwarding mode between families.
#[derive(Debug, Clone, Copy)]
struct Way {
    forward: &'static str,
    ipv6: bool,
    backend_ipv6: bool,
}

const fn way(forward: &'static str, ipv6: bool, backend_ipv6: bool) -> Way {
    Way { forward, ipv6, backend_ipv6 }
}

impl Way {
    fn kind(&self) -> BackendKind {
        match self.forward {
            "nat" => BackendKind::Nat,
            "l2" => BackendKind::L2,
            _ => BackendKind::Ipip,
        }
    }

    fn vip(&self) -> IpAddr {
        if self.ipv6 { VIP6.into() } else { VIP4.into() }
    }

    fn config(&self, backend: IpAddr) -> String {
        let (forward, variant) = self.forward.split_once('/').unwrap_or((self.forward, ""));
        let gue = if variant.is_empty() { String::new() } else { format!("[service.gue]\nvariant = {variant}\n") };
        format!(
            "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"echo\"\nprotocol = \"tcp\"\naddress = \"{}\"\n\
             port = {}\nforward = \"{forward}\"\n{gue}[service.health]\nkind = \"tcp\"\nport = {PORT}\n\
             {PATIENT}\n[[service.backend]]\nname = \"b0\"\naddress = \"{backend}\"\n",
            self.vip(),
            PORT + 1,
        )
    }
}

fn transfers(lab: &Lab, way: &Way, client: &Namespace, backend: (&Namespace, IpAddr)) -> Result<()> {
    let _server = Server::start(backend.0, "b0", PORT)?;
    let controller = Controller::start(&lab.balancer, &way.config(backend.1))?;
    controller.wait_all_up()?;
    let address = SocketAddr::new(way.vip(), PORT + 1);
    client::echo_tcp(client, address, MEGABYTE).with_context(|| format!("{way:?}\n{}", controller.log()))
}

fn before_the_client(way: &Way) -> Result<()> {
    let mut lab = Lab::new(Topology::OneArmed, &[way.kind()])?;
    let far: Behind = narrow_client(&mut lab, MTU)?;
    transfers(&lab, way, &far.host, (&lab.backends[0], Lab::backend(0, way.backend_ipv6)))
}

fn before_the_backend(way: &Way, mtu: u32) -> Result<()> {
    let mut lab = Lab::new(Topology::OneArmed, &[])?;
    let far = narrow_backend(&mut lab, way.kind(), mtu)?;
    transfers(&lab, way, &lab.client, (&far.host, narrow_address(way.backend_ipv6)))
}

macro_rules! before_the_client {
    ($($name:ident: $forward:literal $ipv6:literal $backend_ipv6:literal;)*) => {
        mod before_the_client {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::before_the_client(&super::way($forward, $ipv6, $backend_ipv6))
            })*
        }
    };
}

before_the_client! {
    l2_ipv4: "l2" false false;
    l2_ipv6: "l2" true true;
    nat_ipv4: "nat" false false;
    nat_ipv6: "nat" true true;
    ipip_ipv4_in_ipv4: "ipip" false false;
    ipip_ipv6_in_ipv6: "ipip" true true;
    ipip_ipv4_in_ipv6: "ipip" false true;
    ipip_ipv6_in_ipv4: "ipip" true false;
    gue_0_ipv4: "gue/0" false false;
    gue_0_ipv6: "gue/0" true true;
    gue_1_ipv4: "gue/1" false false;
    gue_1_ipv6: "gue/1" true true;
}

macro_rules! before_the_backend {
    ($($name:ident: $forward:literal $ipv6:literal $backend_ipv6:literal $mtu:expr;)*) => {
        mod before_the_backend {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::before_the_backend(&super::way($forward, $ipv6, $backend_ipv6), $mtu)
            })*
        }
    };
}

before_the_backend! {
    nat_ipv4: "nat" false false super::MTU;
    nat_ipv6: "nat" true true super::MTU;
    ipip_ipv4_in_ipv4: "ipip" false false super::MTU;
    ipip_ipv4_in_ipv6: "ipip" false true super::MTU;
    // What is left of 1300 bytes behind 20 of IPv4 is just what IPv6 asks of every link.
    ipip_ipv6_in_ipv4: "ipip" true false super::MTU;
    // Behind more than that it would be less (RFC 8200, section 5): such a tunnel needs a link that takes 1280 and the
    // outer headers.
    ipip_ipv6_in_ipv6: "ipip" true true 1280 + 40;
    gue_0_ipv4: "gue/0" false false super::MTU;
    gue_0_ipv6: "gue/0" true true 1280 + 52;
    gue_1_ipv4: "gue/1" false false super::MTU;
    gue_1_ipv6_in_ipv4: "gue/1" true false 1280 + 28;
}

/// A packet of the balancer's to the backend, as the switch sees it.
fn sent_to_backend(lab: &Lab, way: &Way) -> Result<Vec<u8>> {
    let capture = Capture::start(&lab.switch, "p-b0")?;
    client::echo_tcp(&lab.client, SocketAddr::new(way.vip(), PORT + 1), 100)?;
    let balancer = mac(&lab.balancer)?;
    let outer = |frame: &Vec<u8>| {
        let protocol = frame[if frame[12..14] == [8, 0] { 23 } else { 20 }];
        frame[6..12] == balancer && frame.len() > 100 && matches!(protocol, 4 | 17 | 41)
    };
    capture.stop().into_iter().find(outer).context("nothing with outer headers went to the backend")
}

/// Anybody can send a "too big" about a packet that he made up. It changes nothing; one about a packet that was sent does,
/// and is an alarm.
#[test]
fn only_errors_about_packets_that_were_sent_count() -> Result<()> {
    for way in [way("ipip", false, false), way("ipip", true, true), way("gue/0", false, false)] {
        let lab = Lab::new(Topology::OneArmed, &[way.kind()])?;
        let _server = Server::start(&lab.backends[0], "b0", PORT)?;
        let backend = Lab::backend(0, way.backend_ipv6);
        let controller = Controller::start(&lab.balancer, &way.config(backend))?;
        controller.wait_all_up()?;
        let sent = sent_to_backend(&lab, &way)?;
        let macs = [mac(&lab.balancer)?, mac(&lab.client)?];
        // The same packet from another address of the prefix.
        let mut forged = sent.clone();
        forged[if way.backend_ipv6 { 37 } else { 29 }] ^= 1;
        send_frames(&lab.client, &[too_big(macs, &forged, 1290), too_big(macs, &sent, 1400)])?;
        let lowered = |alarm: &Alarm| alarm.alarm == "BalancerPathMtuLowered";
        let status = controller
            .wait_for("an alarm", Duration::from_secs(10), |status| status.alarms.iter().any(lowered))
            .with_context(|| format!("{way:?}"))?;
        let alarm = status.alarms.into_iter().find(lowered).context("it was there")?;
        ensure!(alarm.summary.contains(" 1400 bytes"), "{way:?}: {}", alarm.summary);
    }
    Ok(())
}

/// The other tests could not fail if this did not: where nobody hears of the narrow link, large segments never arrive.
#[test]
fn a_narrow_link_that_nobody_tells_of() -> Result<()> {
    let way = way("ipip", false, false);
    let mut lab = Lab::new(Topology::OneArmed, &[way.kind()])?;
    let far = narrow_client(&mut lab, MTU)?;
    // The backend refuses what the balancer relays.
    let table = "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; \
                 add rule inet deaf in icmp type destination-unreachable drop";
    ensure!(lab.backends[0].command("nft").arg(table).status()?.success(), "nft");
    let _server = Server::start(&lab.backends[0], "b0", PORT)?;
    let controller = Controller::start(&lab.balancer, &way.config(Lab::backend(0, false)))?;
    controller.wait_all_up()?;
    let address = SocketAddr::new(way.vip(), PORT + 1);
    let stuck = client::echo_tcp_within(&far.host, address, MEGABYTE, Duration::from_secs(4));
    ensure!(stuck.is_err(), "a megabyte went through a link that nobody knew of");
    Ok(())
}
