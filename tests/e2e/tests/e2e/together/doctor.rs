//! `balancer doctor` finds each fault that is put in, names it, and finds nothing where nothing is wrong.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer::control::api::{Examined, Status, Through};
use harness::controller::Controller;
use harness::lab::BackendKind::{self, Ipip, L2, Nat};
use harness::lab::{Lab, Topology, VIP4, VIP6};
use harness::netns::Namespace;
use harness::programs::attach;
use harness::routers::{narrow_address, narrow_backend};
use harness::server::Server;

const PORT: u16 = 8000;

/// A network whose backends all have servers.
struct Ward {
    lab: Lab,
    servers: Vec<Server>,
}

impl Ward {
    fn new(kinds: &[BackendKind]) -> Result<Self> {
        let lab = Lab::new(Topology::OneArmed, kinds)?;
        let start = |(i, namespace): (usize, &Namespace)| Server::start(namespace, &format!("b{i}"), PORT);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self { lab, servers })
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

    fn controller<'a>(&self, lab: &'a Lab) -> Result<Controller<'a>> {
        let controller = Controller::start(&lab.balancer, &self.text())?;
        controller.wait_all_up()?;
        Ok(controller)
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
    let ward = Ward::new(&[kind; 2])?;
    let examined = expect(&config.controller(&ward.lab)?, &[])?;
    ensure!(examined.probed.len() == 2, "{examined:#?}");
    for probed in &examined.probed {
        ensure!(probed.answered && probed.largest == Some(1500), "{examined:#?}");
        ensure!(probed.through == Through::Program, "{examined:#?}");
    }
    Ok(())
}

#[test]
fn a_host_that_is_short_of_something_or_has_no_route_is_told_so() -> Result<()> {
    let ward = Ward::new(&[Ipip; 2])?;
    let mut config = Config::new("ipip");
    config.backends.push("198.51.100.77".parse()?);
    let text = config.text().replacen("[[interface]]", "[limits]\nservices = 1\n[[interface]]", 1);
    let controller = Controller::start(&ward.lab.balancer, &text)?;
    controller.wait_for("two of three", Duration::from_secs(10), |status| {
        status.services[0].backends.iter().filter(|backend| backend.share.kernel > Some(0.0)).count() == 2
    })?;
    let pid = controller.pid().context("no process")?.to_string();
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=200:200"]).status()?;
    ensure!(limited.success(), "prlimit");
    let examined = examined(&controller, &[])?;
    let mut found = faults(&examined);
    found.sort_unstable();
    ensure!(found == [("DOC007", "host"), ("DOC008", "host"), ("DOC012", "web/b2")], "{examined:#?}");
    Ok(())
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() -> Result<()> {
    is_healthy(L2, &Config::new("l2"))?;
    is_healthy(Ipip, &Config::new("ipip"))?;
    is_healthy(Ipip, &Config::new("gue"))?;
    is_healthy(Nat, &Config::new("nat"))?;
    let six = vec![Lab::backend(0, true), Lab::backend(1, true)];
    is_healthy(L2, &Config { vip: VIP6.into(), backends: six.clone(), ..Config::new("l2") })?;
    is_healthy(Ipip, &Config { vip: VIP6.into(), backends: six.clone(), ..Config::new("ipip") })?;
    is_healthy(Ipip, &Config { backends: six, ..Config::new("ipip") })?;
    is_healthy(Ipip, &Config { protocol: "udp", port: PORT + 1, ..Config::new("ipip") })
}

/// A fault of backend 1 must be found as this, and nothing else, where the service forwards by this mode.
fn finds(
    forward: &'static str,
    kinds: [BackendKind; 2],
    id: &str,
    fault: impl FnOnce(&mut Ward) -> Result<()>,
) -> Result<()> {
    let mut ward = Ward::new(&kinds)?;
    fault(&mut ward)?;
    let controller = Config::new(forward).controller(&ward.lab)?;
    expect(&controller, &[(id, "web/b1")]).with_context(|| format!("{forward}: {id}"))?;
    Ok(())
}

#[test]
fn a_backend_that_no_neighbour_answers_for() -> Result<()> {
    let ward = Ward::new(&[L2])?;
    let config = Config { backends: vec![Lab::backend(0, false), "10.77.0.250".parse()?], ..Config::new("l2") };
    let controller = Controller::start(&ward.lab.balancer, &config.text())?;
    let resolved = |status: &Status| status.services[0].backends[0].share.kernel == Some(1.0);
    controller.wait_for("b0 alone", Duration::from_secs(10), resolved)?;
    expect(&controller, &[("DOC013", "web/b1")])?;
    Ok(())
}

#[test]
fn a_host_that_answers_nothing() -> Result<()> {
    // Its neighbours still find it.
    let mute = |ward: &mut Ward| nft(&ward.lab.backends[1], "input", "meta l4proto { tcp, icmp } drop");
    finds("l2", [L2; 2], "DOC014", mute)?;
    finds("ipip", [Ipip; 2], "DOC014", mute)
}

#[test]
fn a_port_on_which_nobody_listens() -> Result<()> {
    let kill = |ward: &mut Ward| {
        ward.servers[1].kill();
        Ok(())
    };
    finds("l2", [L2; 2], "DOC015", kill)?;
    finds("ipip", [Ipip; 2], "DOC015", kill)?;
    finds("nat", [Nat; 2], "DOC015", kill)?;
    // The same of a datagram, which the backend refuses by ICMP.
    let mut ward = Ward::new(&[Ipip; 2])?;
    ward.servers[1].kill();
    let controller = Config { protocol: "udp", port: PORT + 1, ..Config::new("ipip") }.controller(&ward.lab)?;
    expect(&controller, &[("DOC015", "web/b1")])?;
    Ok(())
}

#[test]
fn a_backend_that_leaves_outer_headers_on() -> Result<()> {
    finds("ipip", [Ipip, L2], "DOC016", |_| Ok(()))?;
    finds("gue", [Ipip, L2], "DOC016", |_| Ok(()))?;
    // Not even an ICMP error tells of it.
    let silent = |ward: &mut Ward| nft(&ward.lab.backends[1], "output", "meta l4proto icmp drop");
    finds("ipip", [Ipip, L2], "DOC016", silent)?;
    finds("gue", [Ipip, L2], "DOC016", silent)
}

#[test]
fn an_address_that_is_not_on_the_backend() -> Result<()> {
    let without = |ward: &mut Ward, forwards: u8| {
        let backend = &ward.lab.backends[1];
        backend.ip(&format!("addr del {VIP4}/32 dev lo"))?;
        backend.sh(&format!("sysctl -qw net.ipv4.ip_forward={forwards}"))
    };
    // A host that drops what is not its own says nothing, and could as well filter its answers.
    finds("l2", [L2; 2], "DOC018", |ward| without(ward, 0))?;
    finds("ipip", [Ipip; 2], "DOC018", |ward| without(ward, 0))?;
    // One that forwards gives itself away.
    finds("l2", [L2; 2], "DOC017", |ward| without(ward, 1))?;
    finds("ipip", [Ipip; 2], "DOC017", |ward| without(ward, 1))
}

#[test]
fn a_reply_that_is_filtered() -> Result<()> {
    let filter = |ward: &mut Ward| nft(&ward.lab.backends[1], "output", &format!("ip saddr {VIP4} drop"));
    finds("l2", [L2; 2], "DOC018", filter)?;
    finds("ipip", [Ipip; 2], "DOC018", filter)?;
    finds("gue", [Ipip; 2], "DOC018", filter)
}

#[test]
fn a_port_that_is_filtered() -> Result<()> {
    let filter =
        |ward: &mut Ward| nft(&ward.lab.backends[1], "input", &format!("ip daddr {VIP4} tcp dport {PORT} drop"));
    finds("l2", [L2; 2], "DOC019", filter)?;
    finds("ipip", [Ipip; 2], "DOC019", filter)
}

#[test]
fn a_network_that_refuses_the_outer_source() -> Result<()> {
    let table = "add table bridge fault; add chain bridge fault way { type filter hook forward priority 0; }; \
                 add rule bridge fault way oifname p-b1 ip saddr 198.18.0.0/15 drop";
    finds("ipip", [Ipip; 2], "DOC020", |ward| {
        ensure!(ward.lab.switch.command("nft").arg(table).status()?.success(), "nft");
        Ok(())
    })
}

#[test]
fn an_interface_that_drops_what_the_program_sends() -> Result<()> {
    let mut ward = Ward::new(&[L2; 2])?;
    ward.lab.refuse_transmissions();
    let controller = Config::new("l2").controller(&ward.lab)?;
    expect(&controller, &[("DOC021", "web/b0"), ("DOC021", "web/b1")])?;
    Ok(())
}

/// A controller with one backend behind a router whose link takes `mtu` bytes, and what the doctor makes of it.
fn behind_a_narrow_link(forward: &'static str, mtu: u32, silent: bool) -> Result<Examined> {
    let mut lab = Lab::new(Topology::OneArmed, &[])?;
    let far = narrow_backend(&mut lab, Ipip, mtu)?;
    let _server = Server::start(&far.host, "b0", PORT)?;
    if silent {
        nft(&far.router, "output", "meta l4proto icmp drop")?;
    }
    let config = Config { backends: vec![narrow_address(false)], ..Config::new(forward) };
    let controller = config.controller(&lab)?;
    examined(&controller, &["web/b0"])
}

#[test]
fn a_narrow_link_that_nobody_tells_of() -> Result<()> {
    for (forward, overhead) in [("ipip", 20), ("gue", 32)] {
        let examined = behind_a_narrow_link(forward, 1300, true)?;
        ensure!(faults(&examined) == [("DOC022", "web/b0")], "{examined:#?}");
        let largest = 1300 - overhead;
        let said = format!("packets above {largest} bytes (1300 with outer headers) do not arrive at web/b0");
        ensure!(examined.findings[0].message == said, "{examined:#?}");
        ensure!(examined.probed[0].largest == Some(largest), "{examined:#?}");
    }
    Ok(())
}

#[test]
fn a_narrow_link_that_its_router_tells_of() -> Result<()> {
    let examined = behind_a_narrow_link("ipip", 1300, false)?;
    ensure!(faults(&examined).is_empty(), "{examined:#?}");
    ensure!(examined.findings.iter().any(|finding| finding.id == "DOC023"), "{examined:#?}");
    ensure!(examined.probed[0].largest == Some(1280), "{examined:#?}");
    Ok(())
}

#[test]
fn a_link_of_the_balancer_that_is_too_narrow() -> Result<()> {
    let ward = Ward::new(&[Ipip; 2])?;
    ward.lab.balancer.ip("link set eth0 mtu 1500")?;
    let controller = Config::new("ipip").controller(&ward.lab)?;
    let examined = expect(&controller, &[("DOC011", "web")])?;
    ensure!(examined.probed.iter().all(|probed| probed.largest == Some(1480)), "{examined:#?}");
    Ok(())
}

#[test]
fn a_program_that_is_not_on_its_interface() -> Result<()> {
    let ward = Ward::new(&[L2; 2])?;
    let controller = Config::new("l2").controller(&ward.lab)?;
    balancer::dataplane::detach(controller.pin_dir())?;
    expect(&controller, &[("DOC001", "eth0")])?;
    let _other = attach(&ward.lab.balancer, "eth0", "pass")?;
    expect(&controller, &[("DOC002", "eth0")])?;
    // Of one backend that is not asked.
    ensure!(examined(&controller, &["web/b0"])?.findings.is_empty(), "a finding about the host");
    Ok(())
}

#[test]
fn an_interface_that_is_down_or_generic() -> Result<()> {
    let ward = Ward::new(&[L2; 2])?;
    let balancer = &ward.lab.balancer;
    balancer.ip("link add eth1 type veth peer name eth2")?;
    let text = Config::new("l2").text() + "[[interface]]\nname = \"eth1\"\n";
    let controller = Controller::start(balancer, &text)?;
    controller.wait_all_up()?;
    expect(&controller, &[("DOC004", "eth1")])?;
    balancer.ip("link del eth1")?;
    // A bridge has no native XDP, and a carrier where one of its ports has one.
    balancer.ip("link add eth1 type bridge")?;
    balancer.ip("link add eth2 type veth peer name eth3")?;
    balancer.ip("link set eth2 master eth1")?;
    for up in ["eth1", "eth2", "eth3"] {
        balancer.ip(&format!("link set {up} up"))?;
    }
    let back = |status: &Status| status.interfaces[1].attached.is_some();
    controller.wait_for("eth1 back", Duration::from_secs(10), back)?;
    let examined = expect(&controller, &[])?;
    ensure!(examined.findings.iter().any(|f| (f.id.as_str(), f.about.as_str()) == ("DOC003", "eth1")), "{examined:#?}");
    Ok(())
}

/// Where no flow of this host's can reach a backend through the program, a socket sends what the program would.
#[test]
fn a_backend_without_slots_is_probed_beside_the_program() -> Result<()> {
    let mut ward = Ward::new(&[Ipip; 2])?;
    let controller = Config::new("ipip").controller(&ward.lab)?;
    controller.done(&["drain", "web/b1"])?;
    let examined = expect(&controller, &[])?;
    ensure!(examined.probed[0].through == Through::Program && examined.probed[1].through == Through::Socket);
    ensure!(examined.probed[1].reason.is_some() && examined.probed[1].largest == Some(1500), "{examined:#?}");
    ward.servers[1].kill();
    expect(&controller, &[("DOC015", "web/b1")])?;
    let unknown = controller.cli(&["doctor", "web/b9"])?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    Ok(())
}

/// With a gate a new backend takes flows once the doctor finds nothing; who is past it stays past it over restarts.
#[test]
fn a_gate_keeps_a_new_backend_out_until_nothing_is_found() -> Result<()> {
    let ward = Ward::new(&[L2; 3])?;
    let address = format!("addr del {VIP4}/32 dev lo");
    for backend in &ward.lab.backends[1..] {
        backend.ip(&address)?;
    }
    let gated = |backends: usize| {
        let backends = (0..backends).map(|i| Lab::backend(i, false)).collect();
        Config { backends, ..Config::new("l2") }.text().replace("forward =", "gate = \"doctor\"\nforward =")
    };
    let share = |status: &Status, i: usize| status.services[0].backends[i].share.kernel.unwrap_or(0.0);
    let mut controller = Controller::start(&ward.lab.balancer, &gated(2))?;
    let soon = Duration::from_secs(15);
    let waits = |status: &Status, i: usize| {
        let reason = status.services[0].backends[i].reason.clone().unwrap_or_default();
        reason.starts_with("waiting for doctor: ") && reason.ends_with("[DOC018]")
    };
    let status = controller.wait_for("b1 is found ill", soon, |status| waits(status, 1) && share(status, 0) > 0.0)?;
    ensure!(share(&status, 0) == 1.0, "{status:#?}");
    let client = harness::client::requests(&ward.lab.client, (VIP4, PORT).into(), 100, 16)?;
    ensure!(client.failed == 0 && client.of("b0") == 100, "{client:?}");
    ward.lab.backends[1].ip(&address.replace("del", "add"))?;
    controller.wait_for("b1 is let in", soon, |status| share(status, 1) > 0.4)?;
    // One that comes later waits; those who are in stay in.
    controller.configure(&gated(3))?;
    controller.done(&["reload"])?;
    let status = controller.wait_for("b2 is found ill", soon, |status| waits(status, 2))?;
    ensure!(share(&status, 1) > 0.4, "{status:#?}");
    controller.end(nix::sys::signal::Signal::SIGTERM)?;
    controller.run()?;
    let status = controller.status()?;
    ensure!(share(&status, 0) > 0.4, "{status:#?}");
    ensure!(share(&status, 1) > 0.4 && share(&status, 2) == 0.0, "{status:#?}");
    Ok(())
}
