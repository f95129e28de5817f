//! Backends that fail leave the table, and return.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use balancer::control::api::{BackendState, Status};
use harness::controller::Controller;
use harness::lab::Lab;
use harness::server::Server;
use harness::web::{PORT, Web};

const SOON: Duration = Duration::from_secs(5);

fn state(status: &Status, backend: usize) -> BackendState {
    status.services[0].backends[backend].state
}

#[test]
fn a_backend_that_fails_its_check_leaves_and_returns() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    controller.wait_all_up()?;
    web.set_failing(0, true)?;
    let start = Instant::now();
    let status = controller.wait_for("down", SOON, |status| state(status, 0) == BackendState::Down)?;
    // Two failures in a row, 200 ms apart, jitter 10 %.
    ensure!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let reason = status.services[0].backends[0].reason.clone().unwrap_or_default();
    ensure!(reason.contains("/healthz") && reason.contains("503"), "{reason}");
    let counts = web.requests(100)?;
    ensure!(counts.of("b1") == 100, "{counts:?}");
    web.set_failing(0, false)?;
    controller.wait_for("up again", SOON, |status| state(status, 0) == BackendState::Up)?;
    ensure!(web.requests(100)?.of("b0") > 20);
    Ok(())
}

#[test]
fn a_backend_that_dies_leaves_and_a_new_server_is_found() -> Result<()> {
    let mut web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    controller.wait_all_up()?;
    web.servers[0].kill();
    controller.wait_for("down", SOON, |status| state(status, 0) == BackendState::Down)?;
    ensure!(web.requests(100)?.failed == 0);
    web.servers[0] = Server::start(&web.lab.backends[0], "b0", PORT)?;
    controller.wait_for("up again", SOON, |status| state(status, 0) == BackendState::Up)?;
    Ok(())
}

#[test]
fn a_backend_that_was_never_probed_successfully_takes_no_flows() -> Result<()> {
    let mut web = Web::new(2)?;
    web.servers[1].kill();
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    let status = controller.wait_for("b0 up", SOON, |status| state(status, 0) == BackendState::Up)?;
    ensure!(status.services[0].backends[1].effective_weight == 0, "{status:?}");
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

#[test]
fn a_backend_without_a_neighbour_is_not_used_and_says_why() -> Result<()> {
    let web = Web::new(2)?;
    let unchecked = web.service(&[1, 1]).unchecked().text().replace(&Lab::backend4(1).to_string(), "10.77.0.250");
    let controller = Controller::start(&web.lab.balancer, &unchecked)?;
    let status = controller.wait_for("b1 unresolved", SOON, |status| state(status, 1) == BackendState::Down)?;
    let reason = status.services[0].backends[1].reason.clone().unwrap_or_default();
    ensure!(reason == "no neighbour answers for 10.77.0.250 on eth0", "{reason}");
    ensure!(web.requests(100)?.of("b0") == 100);
    Ok(())
}

#[test]
fn routes_are_followed_and_l2_wants_its_backends_on_a_link() -> Result<()> {
    let web = Web::new(2)?;
    let unchecked = web.service(&[1, 1]).unchecked().text().replace(&Lab::backend4(1).to_string(), "10.99.0.9");
    let controller = Controller::start(&web.lab.balancer, &unchecked)?;
    let says = |wanted: &'static str| {
        controller
            .wait_for(wanted, SOON, move |status| status.services[0].backends[1].reason.as_deref() == Some(wanted))
    };
    says("no route")?;
    web.lab.balancer.ip("route add 10.99.0.0/24 via 10.77.0.11")?;
    says("not on a link of this host (route via 10.77.0.11), as l2 needs it")?;
    web.lab.balancer.ip("addr add 10.99.0.9/32 dev lo")?;
    says("the address is this host's own")?;
    web.lab.balancer.ip("addr del 10.99.0.9/32 dev lo")?;
    // Encapsulated, the same backend is reached by its gateway.
    controller.configure(&unchecked.replace("\"l2\"", "\"ipip\""))?;
    controller.done(&["reload"])?;
    controller.wait_for("reached by the gateway", SOON, |status| state(status, 1) == BackendState::Up)?;
    web.lab.balancer.ip("route del 10.99.0.0/24")?;
    says("no route")?;
    Ok(())
}

#[test]
fn a_neighbour_that_changes_its_address_is_followed() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    ensure!(web.requests(20)?.failed == 0);
    let backend = &web.lab.backends[0];
    // The backend announces its new address, as hosts do (gratuitous ARP).
    backend.sh("sysctl -qw net.ipv4.conf.eth0.arp_notify=1")?;
    backend.ip("link set eth0 address 02:00:00:00:be:ef")?;
    let explain = || controller.done(&["explain", "tcp", "10.77.0.1:40000", "192.0.2.10:8000"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !explain()?.contains("02:00:00:00:be:ef") {
        ensure!(Instant::now() < deadline, "{}", explain()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(web.requests(20)?.failed == 0);
    Ok(())
}

#[test]
fn a_service_whose_backends_all_fail_keeps_its_table_and_says_so() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    controller.wait_all_up()?;
    // The servers are well; only the path of the check is wrong.
    controller.configure(&web.config(&[1, 1]).replace("/healthz", "/wrong"))?;
    controller.done(&["reload"])?;
    // A change is given five seconds before its service counts as down.
    let status = controller.wait_for("alarms", 3 * SOON, |status| {
        ["BalancerServiceDown", "BalancerRemovalRefused"]
            .iter()
            .all(|name| status.alarms.iter().any(|alarm| alarm.alarm == *name))
    })?;
    ensure!([0, 1].iter().all(|backend| state(&status, *backend) == BackendState::Down), "{status:#?}");
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}
