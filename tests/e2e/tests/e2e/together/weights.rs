//! Weights and drains set by command, against the file, and for as long as documented.

use anyhow::{Result, ensure};
use balancer::control::api::{BackendState, Status};
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

pub(crate) fn shares(status: &Status) -> Vec<f64> {
    status.services[0].backends.iter().map(|backend| backend.share.kernel.unwrap_or(0.0)).collect()
}

pub(crate) fn near(shares: &[f64], wanted: &[f64]) -> Result<()> {
    // A table of 65,537 slots is exact to one of them.
    let close = shares.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1.0 / 65_537.0);
    ensure!(close, "the kernel's shares are {shares:?}, not {wanted:?}");
    Ok(())
}

#[test]
fn the_file_wins_over_a_command_once_its_own_weight_changes() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    controller.done(&["weight", "web/b0", "300"])?;
    // The other backend's weight changes: the command stays in force.
    controller.configure(&web.config(&[100, 300]))?;
    controller.done(&["reload"])?;
    near(&shares(&controller.status()?), &[0.5, 0.5])?;
    // The file says something new about b0: the file is newer.
    controller.configure(&web.config(&[900, 300]))?;
    let said = controller.done(&["reload"])?;
    ensure!(said.contains("web/b0") && said.contains("the file is newer"), "{said}");
    near(&shares(&controller.status()?), &[0.75, 0.25])
}

#[test]
fn a_drained_backend_gets_no_new_flows_until_undrained() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    controller.done(&["drain", "web/b0"])?;
    let counts = web.requests(200)?;
    ensure!(counts.failed == 0 && counts.of("b1") == 200, "{counts:?}");
    ensure!(controller.status()?.services[0].backends[0].state == BackendState::Draining);
    controller.end(Signal::SIGKILL)?;
    controller.run()?;
    ensure!(controller.status()?.services[0].backends[0].state == BackendState::Draining);
    controller.done(&["undrain", "web/b0"])?;
    near(&shares(&controller.status()?), &[0.5, 0.5])?;

    let taken = ["drain", "web/b1", "--accept", "BAL021", "--reason", "the rack moves"];
    let said = controller.done(&["drain", "web/b0"])? + &controller.done(&taken)?;
    ensure!(said.contains("no backend of web takes new flows"), "{said}");
    ensure!(web.requests(1)?.failed == 1);
    ensure!(controller.status()?.dropped.contains_key("no_backend"));
    Ok(())
}

#[test]
fn wrong_commands_are_refused_and_change_nothing() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    let before = controller.wait_all_up()?.generation;
    for (args, code, said) in [
        (&["weight", "web/nobody", "5"][..], 1, "there is no backend nobody in service web; there are: b0, b1"),
        (&["weight", "nobody/b0", "5"], 1, "there is no service nobody"),
        (&["weight", "web/b0", "1000001"], 1, "0 to 1000000"),
        (&["weight", "web", "5"], 2, "SERVICE/BACKEND"),
        (&["weight", "web/b0", "-5"], 2, "unexpected argument"),
        (&["status", "nobody"], 1, "there is no service nobody"),
        (&["explain", "tcp", "10.0.0.1:1", "[2001:db8::1]:1"], 1, "both be IPv4 or both be IPv6"),
    ] {
        let output = controller.cli(args)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code) && text.contains(said), "{args:?}: {} {text}", output.status);
    }
    ensure!(controller.status()?.generation == before);
    Ok(())
}
