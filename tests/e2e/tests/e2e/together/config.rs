//! A config is applied whole or not at all, from the file that is on disk.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_broken_file_changes_nothing_and_says_where_it_is_broken() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 300]))?;
    let before = controller.wait_all_up()?;
    let broken = web.config(&[100, 300]).replace("weight = 300", "wieght = 300").replace("\"l2\"", "\"l3\"");
    controller.configure(&broken)?;
    let output = controller.cli(&["reload"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{said}");
    let text = fs::read_to_string(controller.config())?;
    let line = text.lines().position(|line| line.starts_with("wieght")).unwrap_or(0) + 1;
    let place = format!("{}:{line}:1: error: unknown key `wieght`", controller.config().display());
    ensure!(said.contains(&place) && said.contains("did you mean `weight`?"), "{said}");
    ensure!(said.contains("did you mean \"l2\"?") && said.contains("2 errors found"), "{said}");

    let after = controller.status()?;
    ensure!(after.generation == before.generation && after.config_refused.is_some(), "{after:?}");
    ensure!(web.requests(100)?.failed == 0);
    // A controller that starts refuses the file as well, and leaves what runs.
    controller.end(Signal::SIGTERM)?;
    ensure!(controller.run().is_err());
    ensure!(web.requests(100)?.failed == 0);
    controller.configure(&web.config(&[100, 300]))?;
    controller.run()
}

#[test]
fn sighup_and_the_file_watcher_apply_what_is_on_disk() -> Result<()> {
    let web = Web::new(3)?;
    let watching = |weights: &[u32]| format!("watch_config = true\n{}", web.config(weights));
    let controller = Controller::start(&web.lab.balancer, &watching(&[100, 100]))?;
    controller.wait_all_up()?;
    // Another weight and another backend, by the watcher.
    controller.configure(&watching(&[100, 200, 100]))?;
    let is = |wanted: [f64; 3]| {
        move |status: &balancer::control::api::Status| {
            let backends = &status.services[0].backends;
            backends.len() == 3
                && backends.iter().zip(wanted).all(|(b, w)| b.share.kernel.is_some_and(|s| (s - w).abs() < 1e-4))
        }
    };
    controller.wait_for("the watcher", SOON, is([0.25, 0.5, 0.25]))?;
    controller.configure(&watching(&[200, 100, 100]))?;
    controller.signal(Signal::SIGHUP)?;
    controller.wait_for("SIGHUP", SOON, is([0.5, 0.25, 0.25]))?;
    let counts = web.requests(400)?;
    ensure!(counts.failed == 0 && counts.of("b2") > 0, "{counts:?}");

    // A backend and a service go; counters of those that stay do not fall.
    let before = controller.status()?;
    controller.configure(&watching(&[200]))?;
    controller.wait_for("removal", SOON, |status| status.services[0].backends.len() == 1)?;
    let after = controller.status()?;
    ensure!(after.services[0].backends[0].packets >= before.services[0].backends[0].packets);
    ensure!(web.requests(50)?.of("b0") == 50);
    // A file that would end everything is not taken where nobody is there to say that it is meant.
    controller.configure("watch_config = true\n[[interface]]\nname = \"eth0\"\n")?;
    controller.wait_for("a refusal", SOON, |status| {
        status.config_refused.as_ref().is_some_and(|why| why.contains("BAL031")) && status.services.len() == 1
    })?;
    let said = "[[silence]]\nid = \"BAL031\"\nreason = \"this host is taken out\"\n";
    controller.configure(&format!("watch_config = true\n[[interface]]\nname = \"eth0\"\n{said}"))?;
    controller.wait_for("no service", SOON, |status| status.services.is_empty())?;
    Ok(())
}

#[test]
fn limits_are_named_where_they_are_reached() -> Result<()> {
    let web = Web::new(2)?;
    let small = |backends: u32| format!("{}\n[limits]\nbackends = {backends}\n", web.config(&[1, 1]));
    let mut controller = Controller::prepare(&web.lab.balancer, &small(1))?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("more than `limits.backends` = 1"), "{error}");
    controller.configure(&small(2))?;
    controller.run()?;
    controller.wait_all_up()?;
    controller.end(Signal::SIGTERM)?;
    controller.configure(&small(8))?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("`limits.backends` = 8 but the data plane was loaded with 2"), "{error}");
    ensure!(web.requests(50)?.failed == 0, "what ran before runs on");
    Ok(())
}
