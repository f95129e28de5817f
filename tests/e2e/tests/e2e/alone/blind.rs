//! What takes backends out, and what does not: checks that fail at the balancer itself, too many failures at once, and
//! backends that come back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::{BackendState, Status};
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::lab::VIP4;
use harness::netns::Namespace;
use harness::web::{PORT, Web};

const SOON: Duration = Duration::from_secs(5);
const ECHO: u16 = PORT + 1;

/// An echo service whose servers are checked at another port.
fn config(web: &Web, backends: usize) -> String {
    web.service(&vec![1; backends]).echo().text()
}

fn has_alarm(status: &Status, name: &str) -> bool {
    status.alarms.iter().any(|alarm| alarm.alarm == name)
}

fn all(status: &Status, state: BackendState) -> bool {
    status.services[0].backends.iter().all(|backend| backend.state == state)
}

/// Runs `work` while so many connections are open; none of them may break.
fn with_connections(client: &Namespace, count: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let progress = Arc::new(Progress::default());
    std::thread::scope(|scope| {
        let (pause, patience) = (Duration::from_millis(200), Duration::from_secs(10));
        let (to, shared) = ((VIP4, ECHO).into(), &progress);
        let holding = scope.spawn(move || hold(client, to, count, pause, patience, shared));
        let done = (|| {
            let deadline = Instant::now() + SOON;
            while progress.open.load(Ordering::Relaxed) < count as u64 {
                ensure!(Instant::now() < deadline, "{count} connections do not open: {progress:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
            work()?;
            // Each of them is heard of once more.
            let then = progress.exchanges.load(Ordering::Relaxed);
            while progress.exchanges.load(Ordering::Relaxed) < then + 3 * count as u64 && progress.broken() == 0 {
                ensure!(Instant::now() < deadline + 4 * SOON, "nothing is echoed: {progress:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })();
        progress.stop.store(true, Ordering::Relaxed);
        holding.join().expect("the connections")?;
        done
    })?;
    ensure!(progress.broken() == 0 && progress.refused.load(Ordering::Relaxed) == 0, "{progress:?}");
    Ok(())
}

struct Blinding<'a> {
    what: &'a str,
    /// Where, and what is done and undone there.
    place: &'a Namespace,
    begin: &'a str,
    end: &'a str,
    alarm: &'a str,
    /// Clients still come through.
    reached: bool,
}

fn case<'a>(
    what: &'a str,
    place: &'a Namespace,
    (begin, end): (&'a str, &'a str),
    alarm: &'a str,
    reached: bool,
) -> Blinding<'a> {
    Blinding { what, place, begin, end, alarm, reached }
}

#[test]
fn checks_that_fail_at_the_balancer_itself_cost_no_connection() -> Result<()> {
    let web = Web::new(5)?;
    let (balancer, client) = (&web.lab.balancer, &web.lab.client);
    let controller = Controller::start(balancer, &config(&web, 5))?;
    controller.wait_all_up()?;
    balancer.sh("nft add table inet blind")?;
    balancer.sh("nft add chain inet blind out { type filter hook output priority 0 ; }")?;
    let silence = ("nft add rule inet blind out tcp dport 8000 drop", "nft flush chain inet blind out");
    let rule = ("ip rule add pref 10 ipproto tcp dport 8000 prohibit", "ip rule del pref 10");
    let carrier = ("ip link set p-lb down", "ip link set p-lb up");
    let link = ("ip link set eth0 down", "ip link set eth0 up");
    let cases = [
        case("checks are dropped in silence", balancer, silence, "BalancerRemovalRefused", true),
        case("checks are forbidden", balancer, rule, "BalancerChecksBlind", true),
        case("no carrier", &web.lab.switch, carrier, "BalancerChecksBlind", false),
        case("link down", balancer, link, "BalancerChecksBlind", false),
    ];
    with_connections(client, 60, || {
        for Blinding { what, place, begin, end, alarm, reached } in cases {
            place.sh(begin)?;
            let start = Instant::now();
            controller.wait_for(alarm, SOON, |status| has_alarm(status, alarm)).with_context(|| what.to_owned())?;
            // Three windows, of twice the interval and the timeout.
            while start.elapsed() < Duration::from_millis(1_650) {
                let status = controller.status()?;
                let stays = |b: &balancer::control::api::BackendStatus| b.effective_weight == 1;
                ensure!(status.services[0].backends.iter().all(stays), "{what}: {status:#?}\n{}", controller.log());
                std::thread::sleep(Duration::from_millis(50));
            }
            if reached {
                with_connections(client, 20, || Ok(())).with_context(|| format!("{what}: new connections"))?;
            }
            place.sh(end)?;
            controller
                .wait_for("all is well again", 2 * SOON, |s| all(s, BackendState::Up) && !has_alarm(s, alarm))
                .with_context(|| what.to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn servers_that_died_together_are_kept_for_three_windows_and_then_removed() -> Result<()> {
    let mut web = Web::new(5)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1; 5]))?;
    controller.wait_all_up()?;
    (0..3).for_each(|i| web.servers[i].kill());
    let status = controller.wait_for("kept", SOON, |status| has_alarm(status, "BalancerRemovalRefused"))?;
    let dead = &status.services[0].backends[0];
    ensure!((dead.state, dead.effective_weight) == (BackendState::Down, 1), "{dead:?}");
    ensure!(dead.reason.as_ref().is_some_and(|reason| reason.starts_with("kept: 3 of 5 ")), "{dead:?}");
    controller.wait_for("removed", SOON, |status| {
        let weights: Vec<u32> = status.services[0].backends.iter().map(|b| b.effective_weight).collect();
        weights == [0, 0, 0, 1, 1] && !has_alarm(status, "BalancerRemovalRefused")
    })?;
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

#[test]
fn connections_of_a_backend_that_is_back_within_quiet_go_on() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, 2))?;
    controller.wait_all_up()?;
    with_connections(&web.lab.client, 40, || {
        web.set_failing(0, true)?;
        let status = controller.wait_for("down", SOON, |s| s.services[0].backends[0].state == BackendState::Down)?;
        ensure!(status.services[0].backends[0].effective_weight == 0, "{status:#?}");
        let before = status.services[0].backends[0].new_flows;
        with_connections(&web.lab.client, 20, || Ok(()))?;
        ensure!(controller.status()?.services[0].backends[0].new_flows == before, "new flows fail over at once");
        web.set_failing(0, false)?;
        controller.wait_for("up again", SOON, |status| all(status, BackendState::Up))?;
        Ok(())
    })
}

#[test]
fn a_suspected_backend_is_checked_again_soon() -> Result<()> {
    let mut web = Web::new(2)?;
    let service = web.service(&[1, 1]).checked_each("2s", "1s", 3);
    let controller = Controller::start(&web.lab.balancer, &service.text())?;
    controller.wait_all_up()?;
    web.servers[0].kill();
    let start = Instant::now();
    controller.wait_for("down", SOON, |s| s.services[0].backends[0].state == BackendState::Down)?;
    // An interval at most, and two tenths of it. Whole intervals would take four seconds and more.
    ensure!(start.elapsed() < Duration::from_millis(3500), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_backend_that_flaps_waits_and_there_is_an_alarm() -> Result<()> {
    let web = Web::new(2)?;
    // A window of 1.5 s.
    let service = web.service(&[1, 1]).checked_each("500ms", "500ms", 2);
    let controller = Controller::start(&web.lab.balancer, &service.text())?;
    controller.wait_all_up()?;
    let state = |wanted: BackendState| {
        controller.wait_for("another state", SOON, |s| s.services[0].backends[0].state == wanted)
    };
    for _ in 0..2 {
        web.set_failing(0, true)?;
        state(BackendState::Down)?;
        web.set_failing(0, false)?;
        state(BackendState::Up)?;
    }
    web.set_failing(0, true)?;
    state(BackendState::Down)?;
    web.set_failing(0, false)?;
    let flaps = |status: &Status| {
        let backend = &status.services[0].backends[0];
        let says = backend.reason.as_ref().is_some_and(|reason| reason.contains("it flaps: down 3 times"));
        says && backend.effective_weight == 0
    };
    controller.wait_for("it waits", SOON, flaps)?;
    controller.wait_for("an alarm", SOON, |status| has_alarm(status, "BalancerBackendFlapping"))?;
    state(BackendState::Up)?;
    Ok(())
}
