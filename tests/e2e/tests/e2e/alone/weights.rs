//! Weights set by command take effect at once, and exactly.

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer::control::api::Changed;
use harness::binomial::{fits, within_band};
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

use crate::together::weights::{near, shares};

#[test]
fn a_weight_takes_effect_under_load_and_survives_a_restart() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    near(&shares(&controller.status()?), &[0.5, 0.5])?;

    let answers = std::thread::scope(|scope| -> Result<Vec<Changed>> {
        let load = scope.spawn(|| web.requests(3000));
        let weights = [300, 100, 900, 300];
        let change = |weight: u32| -> Result<Changed> {
            let text = controller.done(&["weight", "web/b0", &weight.to_string(), "--json"])?;
            std::thread::sleep(Duration::from_millis(100));
            Ok(serde_json::from_str(&text)?)
        };
        let answers = weights.into_iter().map(change).collect();
        let counts = load.join().expect("the load")?;
        ensure!(counts.failed == 0, "{counts:?}");
        answers
    })?;
    let mut seconds: Vec<f64> = answers.iter().map(|answer| answer.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    println!("changes took {seconds:?} s");
    // The load has both processors; one change of the four may have waited for it.
    ensure!(seconds[2] < 0.1 && seconds[3] < 0.5, "changes took {seconds:?} s");
    near(&answers[3].backends.iter().map(|b| b.after.unwrap_or(0.0)).collect::<Vec<_>>(), &[0.75, 0.25])?;

    within_band(|| {
        let counts = web.requests(1000)?;
        ensure!(counts.failed == 0 && fits(counts.of("b0"), 1000, 0.75), "{counts:?}");
        Ok(())
    })?;
    let status = controller.status()?;
    let b0 = &status.services[0].backends[0];
    ensure!((b0.weight, b0.file_weight) == (300, 100), "{b0:?}");
    ensure!(b0.set_by_command.as_ref().is_some_and(|set| set.weight == Some(300)), "{b0:?}");
    ensure!(controller.log().contains("uid 0 "), "{}", controller.log());

    controller.end(Signal::SIGTERM)?;
    controller.run()?;
    near(&shares(&controller.status()?), &[0.75, 0.25])?;
    controller.done(&["weight", "web/b0", "--reset"])?;
    near(&shares(&controller.status()?), &[0.5, 0.5])
}
