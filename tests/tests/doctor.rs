//! `balancer doctor` finds each fault that is put in, names it, and finds nothing where nothing is wrong.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use balancer::control::api::{Examined, Through};
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology, VIP4, VIP6};
use harness::netns::Namespace;
use harness::server::Server;

const PORT: u16 = 8000;

/// A network with two backends, servers on all of them, and a controller.
struct Ward {
    lab: Lab,
    servers: Vec<Server>,
}

impl Ward {
    fn new(kind: BackendKind) -> Result<Self> {
        let lab = Lab::new(Topology::OneArmed, &[kind; 2])?;
        let start = |(i, namespace): (usize, &Namespace)| Server::start(namespace, &format!("b{i}"), PORT);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self { lab, servers })
    }

    fn controller(&self, config: &Config) -> Result<Controller<'_>> {
        let controller = Controller::start(&self.lab.balancer, &config.text())?;
        controller.wait_all_up()?;
        Ok(controller)
    }
}

/// A service that is not checked: what is wrong with it nobody but the doctor sees.
struct Config {
    protocol: &'static str,
    forward: &'static str,
    vip: IpAddr,
    port: u16,
    backends: Vec<IpAddr>,
}

impl Config {
    fn new(forward: &'static str) -> Self {
        let backends = vec![Lab::backend(0, false), Lab::backend(1, false)];
        Self { protocol: "tcp", forward, vip: VIP4.into(), port: PORT, backends }
    }

    fn text(&self) -> String {
        let Self { protocol, forward, vip, port, backends } = self;
        let mut text = format!(
            "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"{protocol}\"\n\
             address = \"{vip}\"\nport = {port}\nforward = \"{forward}\"\n[service.health]\nkind = \"none\"\n"
        );
        for (i, address) in backends.iter().enumerate() {
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\n");
        }
        text
    }
}

/// What the doctor says, and how it ends: with 1 exactly where something is wrong.
fn examined(controller: &Controller<'_>, subject: &[&str]) -> Result<Examined> {
    let output = controller.cli(&[&["doctor"], subject, &["--json"]].concat())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let examined: Examined =
        serde_json::from_str(&said).with_context(|| format!("{output:?}\n{}", controller.log()))?;
    let faults = examined.findings.iter().filter(|finding| finding.counts()).count();
    ensure!(output.status.code() == Some(i32::from(faults > 0)), "{}: {examined:#?}", output.status);
    Ok(examined)
}

/// The faults, as identifier and what they are about.
fn faults(examined: &Examined) -> Vec<(&str, &str)> {
    let faults = examined.findings.iter().filter(|finding| finding.counts());
    faults.map(|finding| (finding.id.as_str(), finding.about.as_str())).collect()
}

fn expect(controller: &Controller<'_>, wanted: &[(&str, &str)]) -> Result<Examined> {
    let examined = examined(controller, &[])?;
    ensure!(faults(&examined) == wanted, "{wanted:?}, but {examined:#?}\n{}", controller.log());
    Ok(examined)
}

/// An nftables rule in a namespace.
fn nft(namespace: &Namespace, hook: &str, rule: &str) -> Result<()> {
    let table = format!(
        "add table inet fault; add chain inet fault {hook} {{ type filter hook {hook} priority 0; }}; \
         add rule inet fault {hook} {rule}"
    );
    ensure!(namespace.command("nft").arg(table).status()?.success(), "nft");
    Ok(())
}

fn is_healthy(kind: BackendKind, config: &Config) -> Result<()> {
    let ward = Ward::new(kind)?;
    let controller = ward.controller(config)?;
    let examined = expect(&controller, &[])?;
    ensure!(examined.probed.len() == 2, "{examined:#?}");
    for probed in &examined.probed {
        ensure!(probed.answered && probed.largest == Some(1500), "{examined:#?}");
        ensure!(probed.through == Through::Program, "{examined:#?}");
    }
    Ok(())
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() -> Result<()> {
    is_healthy(BackendKind::L2, &Config::new("l2"))?;
    is_healthy(BackendKind::Ipip, &Config::new("ipip"))?;
    is_healthy(BackendKind::Ipip, &Config::new("gue"))?;
    is_healthy(BackendKind::Nat, &Config::new("nat"))?;
    let six = vec![Lab::backend(0, true), Lab::backend(1, true)];
    is_healthy(BackendKind::L2, &Config { vip: VIP6.into(), backends: six.clone(), ..Config::new("l2") })?;
    is_healthy(BackendKind::Ipip, &Config { vip: VIP6.into(), backends: six.clone(), ..Config::new("ipip") })?;
    is_healthy(BackendKind::Ipip, &Config { backends: six, ..Config::new("ipip") })?;
    is_healthy(BackendKind::Ipip, &Config { protocol: "udp", port: PORT + 1, ..Config::new("ipip") })
}

/// What a fault on backend 1 is found to be, under a forwarding mode.
fn found(kind: BackendKind, forward: &str, fault: impl Fn(&Ward) -> Result<()>, id: &str) -> Result<Examined> {
    let ward = Ward::new(kind)?;
    let config = Config { forward: forward.to_owned(), ..Config::new("") };
    let controller = ward.controller(&config)?;
    fault(&ward)?;
    expect(&controller, &[(id, "web/b1")]).with_context(|| format!("{forward}, {id}"))
}

fn forwarding(namespace: &Namespace, on: bool) -> Result<()> {
    let on = u8::from(on);
    namespace.sh(&format!("sysctl -qw net.ipv4.ip_forward={on}"))
}

#[test]
fn a_backend_that_is_gone() -> Result<()> {
    let ward = Ward::new(BackendKind::L2)?;
    let nobody: IpAddr = "10.77.0.250".parse()?;
    let config = Config { backends: vec![Lab::backend(0, false), nobody], ..Config::new("l2") };
    let controller = Controller::start(&ward.lab.balancer, &config.text())?;
    let examined = expect(&controller, &[("DOC013", "web/b1")])?;
    ensure!(examined.probed.len() == 1, "{examined:#?}");
    Ok(())
}

#[test]
fn a_backend_that_hears_nothing() -> Result<()> {
    for (kind, forward) in [(BackendKind::L2, "l2"), (BackendKind::Ipip, "ipip")] {
        // Its neighbours still find it.
        let deaf = |ward: &Ward| nft(&ward.lab.backends[1], "input", "meta l4proto { tcp, icmp } drop");
        found(kind, forward, deaf, "DOC014")?;
    }
    Ok(())
}

#[test]
fn a_port_on_which_nobody_listens() -> Result<()> {
    for (kind, forward) in [(BackendKind::L2, "l2"), (BackendKind::Ipip, "ipip"), (BackendKind::Nat, "nat")] {
        let mut ward = Ward::new(kind)?;
        let controller = ward.lab_controller(forward)?;
        drop(controller);
        ward.servers[1].kill();
        let controller = ward.lab_controller(forward)?;
        expect(&controller, &[("DOC015", "web/b1")])?;
    }
    Ok(())
}
