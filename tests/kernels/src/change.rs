//! What changes while connections are open: weights, and the controller itself.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use xtask::report::Verdict;

use super::conversation::Conversation;
use super::network::Network;
use super::path::Path;
use super::{Cases, Outcome};
use harness::client;
use harness::controller::Controller;

const REQUESTS: usize = 300;
const AT_ONCE: usize = 8;

pub(super) fn all(cases: &mut Cases<'_>, network: &Network, controller: &mut Controller<'_>, path: &Path) {
    let mut open = Vec::new();
    cases.run("weight change under traffic", || {
        for _ in 0..20 {
            open.push(Conversation::open(&network.lab.client, path.address())?);
        }
        weight(network, controller, path)
    });
    cases.run("connections open at a weight change", || Ok(survivors(&mut open)));
    cases.run("controller killed and restarted", || restart(network, controller, path));
}

/// From half to three quarters for the first backend.
fn weight(network: &Network, controller: &Controller<'_>, path: &Path) -> Result<Outcome> {
    let requests = || client::requests(&network.lab.client, path.address(), REQUESTS, AT_ONCE);
    let meanwhile = thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(requests);
        thread::sleep(Duration::from_millis(300));
        controller.done(&["weight", &format!("{}/b0", path.name), "300"])?;
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    ensure!(meanwhile.failed <= AT_ONCE as u64, "{} of {REQUESTS} failed meanwhile: {meanwhile:?}", meanwhile.failed);
    let after = requests()?;
    ensure!(after.failed == 0, "{} of {REQUESTS} failed after the change: {after:?}", after.failed);
    let share = after.of("b0") as f64 / after.total() as f64;
    // Five standard deviations.
    ensure!((share - 0.75).abs() < 0.125, "b0 should get 0.75 of {after:?}");
    Ok(Outcome::works(format!(
        "0.5 to 0.75, {share:.2} observed; {} of {REQUESTS} requests failed meanwhile",
        meanwhile.failed
    )))
}

fn survivors(open: &mut [Conversation]) -> Outcome {
    let all = open.len();
    let alive = open.iter_mut().filter_map(|conversation| conversation.goes_on().ok()).count();
    let verdict = if alive == all { Verdict::Works } else { Verdict::Open };
    Outcome::new(verdict, format!("{alive} of {all} go on"))
}

/// As a crash would end it; forwarding goes on without it, and the next one takes over.
fn restart(network: &Network, controller: &mut Controller<'_>, path: &Path) -> Result<Outcome> {
    let mut conversation = Conversation::open(&network.lab.client, path.address())?;
    controller.end(Signal::SIGKILL)?;
    conversation.goes_on()?;
    let orphaned = client::requests(&network.lab.client, path.address(), 40, AT_ONCE)?;
    ensure!(orphaned.failed == 0, "without a controller: {orphaned:?}");
    controller.run()?;
    conversation.goes_on()?;
    let log = controller.log();
    ensure!(log.contains("took over"), "the new controller took nothing over:\n{log}");
    let after = client::requests(&network.lab.client, path.address(), 40, AT_ONCE)?;
    ensure!(after.failed == 0, "after the restart: {after:?}");
    Ok(Outcome::works("an open connection and 80 new ones"))
}
