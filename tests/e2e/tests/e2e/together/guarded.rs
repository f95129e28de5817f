//! A guarded change is taken back where it does harm, where nobody confirms it, and where the controller died meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Reloaded;
use balancer::history::Outcome;
use harness::controller::Controller;
use harness::lab::VIP4;
use harness::web::Web;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

const TAKEN: [&str; 4] = ["--accept", "BAL016,BAL019", "--reason", "a try"];

/// Applies the config with another weight for the first backend, on probation.
fn guard(controller: &Controller<'_>, weight: u32, duration: &str) -> Result<Reloaded> {
    let file = controller.propose(&[("weight = 100", &format!("weight = {weight}"))])?;
    controller.json(&[&["apply", &file.path, "--guard", duration][..], &TAKEN].concat())
}

fn share(controller: &Controller<'_>) -> Result<f64> {
    Ok(controller.shares()?[0])
}

/// Waits until no change is on probation.
fn over(controller: &Controller<'_>, limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    controller.wait_for("the end of the guard", limit, |status| status.guard.is_none())?;
    Ok(start.elapsed())
}

#[test]
fn what_nobody_confirms_is_taken_back_in_time_and_what_is_confirmed_stays() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let first = fs::read_to_string(controller.config())?;
    let applied = guard(&controller, 400, "6s")?;
    let begun = applied.guard.context("no guard")?;
    // A third of the slots, a tenth at a time.
    ensure!((begun.step, begun.steps) == (1, 4), "{begun:?}");
    let now = share(&controller)?;
    // A quarter of the way.
    ensure!((now - (1.0 / 3.0 + 1.0 / 12.0)).abs() < 1e-4, "after one step b0 has {now}");
    controller.refused(&["weight", "web/b1", "50"], &["balancer confirm"])?;
    controller.wait_for("the last step", Duration::from_secs(5), |status| {
        status.guard.as_ref().is_some_and(|guard| guard.step == guard.steps)
    })?;
    ensure!((share(&controller)? - 2.0 / 3.0).abs() < 1e-4, "{}", share(&controller)?);
    let took = over(&controller, Duration::from_secs(7))?;
    ensure!(took < Duration::from_secs(7), "{took:?}");
    ensure!((share(&controller)? - 1.0 / 3.0).abs() < 1e-4 && fs::read_to_string(controller.config())? == first);
    let last = controller.records()?;
    let [.., tried, back] = &last[..] else { anyhow::bail!("{last:#?}") };
    ensure!(tried.result == Outcome::RolledBack && back.result == Outcome::Applied, "{last:#?}");
    ensure!(tried.reason.as_deref() == Some("nobody confirmed it in time"), "{tried:#?}");

    guard(&controller, 400, "30s")?;
    controller.done(&["confirm"])?;
    ensure!((share(&controller)? - 2.0 / 3.0).abs() < 1e-4, "{}", share(&controller)?);
    let last = controller.records()?.pop().context("no record")?;
    ensure!(last.result == Outcome::Applied && last.command.contains("confirmed by uid 0"), "{last:#?}");
    guard(&controller, 900, "30s")?;
    controller.done(&["rollback"])?;
    ensure!((share(&controller)? - 2.0 / 3.0).abs() < 1e-4, "{}", share(&controller)?);
    ensure!(controller.done(&["history", "--verify"])?.contains("no record"));
    Ok(())
}

#[test]
fn the_config_puts_risky_changes_on_probation_whoever_asks() -> Result<()> {
    let web = Web::new(3)?;
    let text = |weights: &[u32]| web.config(weights) + "[guard]\nfrom = \"medium\"\nduration = \"30s\"\n";
    let controller = Controller::start(&web.lab.balancer, &text(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let guarded = || Ok::<_, anyhow::Error>(controller.status()?.guard);
    controller.done(&["weight", "web/b0", "105"])?;
    ensure!(guarded()?.is_none(), "little moves");
    controller.done(&["weight", "web/b0", "500"])?;
    let guard = guarded()?.context("no guard")?;
    ensure!(guard.command == "weight 500 of web/b0" && guard.step == 1 && guard.steps > 2, "{guard:?}");
    ensure!(share(&controller)? < 105.0 / 305.0 + 0.1, "{}", share(&controller)?);
    controller.done(&["rollback"])?;
    ensure!((share(&controller)? - 105.0 / 305.0).abs() < 1e-4 && guarded()?.is_none());
    controller.configure(&text(&[100, 100, 300]))?;
    controller.signal(Signal::SIGHUP)?;
    controller.wait_for("a guard", Duration::from_secs(5), |status| status.guard.is_some())?;
    // Reading the same file again is no other change.
    controller.done(&["reload"])?;
    controller.done(&["confirm"])?;
    let last = controller.shares()?[2];
    ensure!((last - 300.0 / 505.0).abs() < 1e-4, "{last}");
    Ok(())
}

#[test]
fn a_controller_that_dies_meanwhile_takes_it_back_when_it_starts() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    let first = fs::read_to_string(controller.config())?;
    guard(&controller, 900, "60s")?;
    controller.end(Signal::SIGKILL)?;
    ensure!(web.requests(200)?.failed == 0);
    controller.run()?;
    let status = controller.status()?;
    ensure!(status.guard.is_none() && fs::read_to_string(controller.config())? == first);
    ensure!((share(&controller)? - 0.5).abs() < 1e-4 && controller.log().contains("it is taken back"));
    Ok(())
}

/// New connections to the service, so many a second, until `stop`: how many were made, and how many were not in time.
fn connect(web: &Web, per_second: u32, stop: &AtomicBool) -> Result<(u64, u64)> {
    let (made, failed) = web.lab.client.block_on(|| async move {
        let mut pace = interval(Duration::from_secs(1) / per_second);
        let mut tasks = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            pace.tick().await;
            tasks.push(tokio::spawn(async {
                let start = Instant::now();
                let connected = timeout(Duration::from_secs(4), TcpStream::connect((VIP4, 8000))).await;
                // Whose SYN was lost has sent another one after a second.
                matches!(connected, Ok(Ok(_))) && start.elapsed() < Duration::from_millis(900)
            }));
        }
        let (mut made, mut failed) = (0, 0);
        for task in tasks {
            *(if task.await.unwrap_or(false) { &mut made } else { &mut failed }) += 1;
        }
        (made, failed)
    })?;
    Ok((made, failed))
}

/// The first outage's second half: a server gets more than it can take. Here it answers a hundred SYNs a second.
#[test]
fn a_weight_that_overloads_a_server_is_taken_back_before_much_harm_is_done() -> Result<()> {
    let web = Web::new(3)?;
    web.lab.backends[0].sh(
        "nft add table ip slow; add chain ip slow in { type filter hook input priority 0; }; \
         add rule ip slow in ip saddr 10.77.0.1 tcp flags & (syn|ack) == syn limit rate over 100/second burst 5 packets drop",
    )?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| connect(&web, 210, &stop));
        let done = (|| -> Result<Duration> {
            std::thread::sleep(Duration::from_secs(2));
            ensure!(controller.status()?.services[0].backends[0].new_flows > 50);
            guard(&controller, 1200, "20s")?;
            over(&controller, Duration::from_secs(21))
        })();
        stop.store(true, Ordering::Relaxed);
        let (made, failed) = load.join().expect("the load")?;
        let took = done?;
        ensure!(took < Duration::from_secs(15), "taken back after {took:?} only");
        ensure!((share(&controller)? - 1.0 / 3.0).abs() < 1e-4);
        let last = controller.records()?;
        let [.., tried, _] = &last[..] else { anyhow::bail!("{last:#?}") };
        ensure!(tried.reason.as_deref().is_some_and(|why| why.contains("SYNs came again")), "{tried:#?}");
        println!("taken back after {took:?}; {made} connections made, {failed} not in time");
        // All of the change at once, for all of the guard's time, would have cost eighty a second.
        ensure!(failed < 500, "{failed} of {made}");
        Ok(())
    })
}
