//! GUE, taken off by the kernel's own receiver.

use anyhow::Result;
use xtask::report::Verdict;

use super::network::Network;
use super::path::{self, Path, config, tunnel};
use super::{Cases, Outcome, receive};
use crate::controller::Controller;

/// What is inside comes out of the same devices as with `ipip`.
const PATHS: [Path; 4] = [
    tunnel("gue-4in4", "gue", 31, (false, false), "tunl0"),
    tunnel("gue-6in4", "gue", 32, (true, false), "sit0"),
    tunnel("gue-4in6", "gue", 33, (false, true), "ipip6"),
    tunnel("gue-6in6", "gue", 34, (true, true), "ipip6"),
];

pub(super) fn all(cases: &mut Cases<'_>, network: &Network) {
    let prepared = cases.run("gue receivers at the backends", || {
        if let Some(refusal) = refusal(network)? {
            return Ok(Outcome::new(Verdict::Skipped, refusal));
        }
        for backend in &network.lab.backends[..2] {
            receive::prepare_gue(backend)?;
        }
        Ok(Outcome::works("backends are prepared"))
    });
    if prepared {
        path::all(cases, network, "native", &PATHS);
    }
}

/// What `balancer check` says against the mode, if anything.
fn refusal(network: &Network) -> Result<Option<String>> {
    let controller = Controller::prepare(&network.lab.balancer, &config("native", &PATHS))?;
    let config = controller.config().display().to_string();
    let output = controller.cli(&["check", &config])?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let named = said.lines().find(|line| line.contains("gue")).unwrap_or(&said).trim();
    let named = named.rsplit("error: ").next().unwrap_or(named).to_owned();
    Ok((!output.status.success()).then_some(named))
}
