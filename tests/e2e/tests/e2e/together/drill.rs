//! A drill proves the chain from a fault to whoever should hear of it, and shows where it is broken.

use anyhow::{Context, Result, ensure};
use balancer::control::api::Drill;
use harness::controller::Controller;
use harness::receiver::Receiver;
use harness::web::Web;

fn config(web: &Web, receiver: &Receiver) -> String {
    let url = receiver.url("/hook");
    let webhook = format!("[[webhook]]\nurl = \"{url}\"\nformat = \"json\"\nwait = \"0s\"\n");
    web.service(&[100, 100]).node(&webhook).text()
}

#[test]
fn every_drill_goes_through_metric_alarm_and_webhook_and_harms_nobody() -> Result<()> {
    let web = Web::new(2)?;
    let receiver = Receiver::start(&web.lab.balancer)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, &receiver))?;
    controller.wait_all_up()?;
    for (number, (fault, found)) in [
        ("table", "slot 0 of drill is not the one that was planned"),
        ("backend", "the entry of drill/one is not the one that was written"),
        ("skew", "drill/one gets +"),
    ]
    .into_iter()
    .enumerate()
    {
        let drill: Drill = controller.json(&["drill", fault])?;
        ensure!(drill.over && drill.missing.is_empty(), "{drill:#?}");
        let steps: Vec<&str> = drill.steps.iter().map(|step| step.what.as_str()).collect();
        for wanted in ["found", "alarm", "metric", "put right", "alarm over", "metric over"] {
            ensure!(steps.contains(&wanted), "no {wanted} in {steps:?}");
        }
        ensure!(steps.iter().any(|step| step.starts_with("webhook") && step.ends_with("resolved")), "{steps:?}");
        let detail = drill.steps[0].detail.as_deref().context("what was found")?;
        ensure!(detail.starts_with(found), "{detail}");
        let received = receiver.received();
        let told = |status: &str| {
            let entries = received.iter().flat_map(|received| received.body["alarms"].as_array().into_iter().flatten());
            let of_drill = entries.filter(|alarm| alarm["alarm"] == "BalancerDrill" && alarm["status"] == status);
            of_drill.filter(|alarm| alarm["entry"] == fault && alarm["severity"] == "info").count()
        };
        ensure!(told("firing") > 0 && told("resolved") > 0, "drill {number}: {received:#?}");
        ensure!(web.requests(50)?.failed == 0);
        ensure!(controller.status()?.alarms.is_empty());
    }
    // A change that comes after it is tried in a shadow as ever.
    controller.done(&["weight", "web/b0", "300"])?;
    Ok(())
}

#[test]
fn a_receiver_that_does_not_hear_is_named() -> Result<()> {
    let web = Web::new(2)?;
    let receiver = Receiver::start(&web.lab.balancer)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, &receiver))?;
    controller.wait_all_up()?;
    receiver.set_failing(true);
    let output = controller.cli(&["drill", "table"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    ensure!(text.contains("NOT IN TIME: webhook 127.0.0.1:"), "{text}");
    Ok(())
}
