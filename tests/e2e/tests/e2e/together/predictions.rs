//! What a plan predicts is what servers really get: random weights, with every server there and without each one of them.

use anyhow::{Context, Result, ensure};
use balancer::control::api::Plan;
use balancer::model::BackendName;
use harness::binomial::{fits, within_band};
use harness::controller::Controller;
use harness::web::Web;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs;
use std::time::Duration;

const BACKENDS: usize = 3;
/// Configs, or as many as `PREDICTIONS_CONFIGS` says.
const CONFIGS: usize = 8;
const CONNECTIONS: usize = 400;
const PEAK: u32 = 10_000;
const CAPACITY: u32 = 1_000_000;

/// The service with these weights, its peak, and servers that can take it.
fn config(web: &Web, weights: &[u32]) -> String {
    let service = web.service(weights).checked_each("100ms", "90ms", 2);
    let service = service.each(&format!("capacity = {{ new_flows_per_second = {CAPACITY} }}"));
    service.more(&format!("[service.peak]\nnew_flows_per_second = {PEAK}")).text()
}

/// Connections of which each backend must get its predicted part, within the band of 99.9 %.
fn measure(web: &Web, predicted: &[f64]) -> Result<()> {
    let counts = web.requests(CONNECTIONS)?;
    ensure!(counts.failed == 0, "{counts:?}");
    for (at, share) in predicted.iter().enumerate() {
        let got = counts.of(&format!("b{at}"));
        ensure!(fits(got, CONNECTIONS as u64, *share), "b{at} got {got} of {CONNECTIONS}, {share} predicted");
    }
    Ok(())
}

#[test]
fn predicted_loads_are_what_servers_get() -> Result<()> {
    let web = Web::new(BACKENDS)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, &[100; BACKENDS]))?;
    controller.wait_all_up()?;
    let mut rng = StdRng::seed_from_u64(50);
    let proposed = controller.config().with_file_name("proposed.toml");
    let path = proposed.to_str().context("a path")?;
    let configs = std::env::var("PREDICTIONS_CONFIGS").ok().and_then(|number| number.parse().ok()).unwrap_or(CONFIGS);
    for number in 0..configs {
        let weights: Vec<u32> = (0..BACKENDS).map(|_| rng.random_range(1..=1000)).collect();
        let mut text = fs::read_to_string(controller.config())?;
        let start = text.find("[[interface]]").context("no interface")?;
        text.truncate(start);
        let whole = config(&web, &weights);
        text += &whole[whole.find("[[interface]]").context("no interface")?..];
        fs::write(&proposed, text)?;
        let plan: Plan = controller.json(&["plan", path])?;
        let service = plan.services.first().context("nothing changes")?;
        // Of the peak, by what the plan says of capacities.
        let load = |name: &BackendName| {
            let backend = service.backends.iter().find(|backend| backend.name == *name)?;
            Some(backend.load_after? * f64::from(CAPACITY) / f64::from(PEAK))
        };
        let names: Vec<BackendName> = (0..BACKENDS).map(|at| format!("b{at}").parse()).collect::<Result<_, _>>()?;
        let predicted: Vec<f64> = names.iter().map(|name| load(name).unwrap_or(f64::NAN)).collect();
        let taken = ["--accept", "BAL016,BAL018,BAL019,BAL027", "--reason", "a test"];
        controller.done(&[&["apply", path, "--plan", &plan.id][..], &taken].concat())?;
        within_band(|| measure(&web, &predicted)).with_context(|| format!("config {number}, weights {weights:?}"))?;
        for lost in 0..BACKENDS {
            let left = 1.0 - predicted[lost];
            let after: Vec<f64> =
                predicted.iter().enumerate().map(|(at, share)| if at == lost { 0.0 } else { share / left }).collect();
            web.set_failing(lost, true)?;
            let limit = Duration::from_secs(5);
            let share = |at: usize| {
                move |status: &balancer::control::api::Status| {
                    status.services[0].backends[at].share.kernel.unwrap_or(0.0)
                }
            };
            controller.wait_for("the loss", limit, |status| share(lost)(status) == 0.0)?;
            within_band(|| measure(&web, &after))
                .with_context(|| format!("config {number}, weights {weights:?}, without b{lost}"))?;
            web.set_failing(lost, false)?;
            controller.wait_for("the return", limit, |status| share(lost)(status) > 0.0)?;
        }
    }
    Ok(())
}
