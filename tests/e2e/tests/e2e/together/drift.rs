//! What runs is compared with what was planned, and a gap is named, told and put right.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use balancer::alarm::Alarm;
use balancer::control::api::{Layer, Verification};
use balancer_common::layout::Kind;
use balancer_common::slot::Slot;
use harness::controller::Controller;
use harness::receiver::Receiver;
use harness::tamper::Pinned;
use harness::web::Web;

/// The interval of these tests is one second. How soon an alarm comes on a quiet machine is a test in `alone/outages.rs`.
const WITHIN: Duration = Duration::from_secs(10);

pub(crate) fn config(web: &Web, verify: &str) -> String {
    // Somebody has explained the weights: alarms about them are another promise.
    let silence = "[[silence]]\nid = \"BAL016\"\nreason = \"b2 is the larger machine\"\n";
    web.service(&[100, 100, 200]).node(&format!("[verify]\ninterval = \"1s\"\n{verify}")).text() + silence
}

/// Waits for an alarm, and says it.
fn alarm(controller: &Controller<'_>, name: &str) -> Result<Alarm> {
    let status = controller.wait_for(name, WITHIN, |status| status.alarms.iter().any(|alarm| alarm.alarm == name))?;
    status.alarms.into_iter().find(|alarm| alarm.alarm == name).context("it was there")
}

pub(crate) fn says(alarm: &Alarm, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(alarm.summary.contains(part), "no {part:?} in {:?}", alarm.summary);
    }
    Ok(())
}

/// Waits until nothing is wrong any more.
pub(crate) fn quiet(controller: &Controller<'_>) -> Result<()> {
    controller.wait_for("no alarms", WITHIN, |status| status.alarms.is_empty()).map(drop)
}

pub(crate) fn verified(controller: &Controller<'_>) -> Result<Verification> {
    controller.json(&["verify"])
}

#[test]
fn what_is_changed_from_outside_is_named_and_put_right() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, ""))?;
    controller.wait_all_up()?;
    let pinned = Pinned::of(controller.pin_dir());
    quiet(&controller)?;

    // A table of the first service stands at place 0; indices of backends begin with 1, in the order of their names.
    let slots: Vec<Slot> = (0..2000).map(|number| pinned.slot(0, number)).collect::<Result<_>>()?;
    let of_b0: Vec<u32> = (0..2000).filter(|number| slots[*number as usize] == Slot::closed(1)).collect();
    pinned.set_slots(0, of_b0.iter().map(|number| (*number, Slot::closed(2))))?;
    let found = alarm(&controller, "BalancerTableDiffers")?;
    let first = format!("slot {} of 65537", of_b0[0]);
    let others = format!("and {} more", of_b0.len() - 1);
    says(&found, &["web", &first, "expected b0", "found b1", &others, "put right"])?;
    for number in 0..2000 {
        ensure!(pinned.slot(0, number)? == slots[number as usize], "slot {number} was not put right");
    }
    quiet(&controller)?;

    pinned.delete("TABLES", 0)?;
    says(&alarm(&controller, "BalancerTableDiffers")?, &["web", "table", "no table", "put right"])?;
    ensure!(web.requests(100)?.failed == 0);
    quiet(&controller)?;

    pinned.change_line(
        |line| !line.key.is_empty() && line.key.kind() == Kind::Service as u8,
        |line| line.entry.table = 7,
    )?;
    says(
        &alarm(&controller, "BalancerServiceEntryDiffers")?,
        &["web", "192.0.2.10 port 8000", "table 0", "table 7", "put right"],
    )?;
    ensure!(web.requests(100)?.failed == 0);
    quiet(&controller)?;

    pinned.overwrite("BACKENDS", 2, 64, 0)?;
    says(&alarm(&controller, "BalancerBackendEntryDiffers")?, &["web/b1", "no entry", "put right"])?;
    ensure!(web.requests(100)?.failed == 0);
    quiet(&controller)?;

    pinned.overwrite("RATES", 0, 32, 1)?;
    says(&alarm(&controller, "BalancerSettingsDiffer")?, &["web", "rates", "put right"])?;
    quiet(&controller)?;
    ensure!(verified(&controller)?.gaps.is_empty());

    pinned.change_settings(|settings| settings.capture = 1)?;
    says(&alarm(&controller, "BalancerSettingsDiffer")?, &["capture", "expected 0x0", "found 0x1", "put right"])?;
    quiet(&controller)?;
    pinned.change_line(
        |line| !line.key.is_empty() && line.key.kind() == Kind::Address as u8,
        |line| line.entry.number ^= 1,
    )?;
    says(&alarm(&controller, "BalancerServiceEntryDiffers")?, &["web", "address 192.0.2.10", "put right"])?;
    quiet(&controller)?;

    let before = controller.status()?.services[0].backends[1].packets;
    ensure!(before > 0 && verified(&controller)?.gaps.is_empty());
    pinned.overwrite("COUNTERS", 2, 32, 0)?;
    says(&alarm(&controller, "BalancerSettingsDiffer")?, &["web/b1", "counters", "expected at least", "put right"])?;
    ensure!(controller.status()?.services[0].backends[1].packets >= before, "counters fell");
    quiet(&controller)
}

#[test]
fn a_weight_that_somebody_asked_for_is_no_gap() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, ""))?;
    controller.wait_all_up()?;
    controller.done(&["weight", "web/b0", "101"])?;
    let verification = verified(&controller)?;
    ensure!(verification.gaps.is_empty() && verification.asked_for.len() == 1, "{verification:#?}");
    let text = controller.done(&["verify"])?;
    ensure!(text.contains("asked for web/b0: weight: expected weight 100, found weight 101"), "{text}");
    controller.done(&["weight", "web/b0", "100"])?;
    ensure!(verified(&controller)?.asked_for.is_empty(), "what the file says as well is no difference");
    Ok(())
}

#[test]
fn a_program_that_is_replaced_or_taken_off_is_named_and_put_back_only_where_that_is_wanted() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, ""))?;
    controller.wait_all_up()?;
    let pinned = Pinned::of(controller.pin_dir());
    quiet(&controller)?;
    let stranger = pinned.replace_program(&web.lab.balancer, "eth0", "pass")?;
    says(&alarm(&controller, "BalancerProgramReplaced")?, &["eth0", "expected program", "found program"])?;
    let verification: Verification = {
        let output = controller.cli(&["verify", "--json"])?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        serde_json::from_slice(&output.stdout)?
    };
    ensure!(verification.gaps.iter().any(|gap| gap.to == Layer::Program && !gap.healed), "{verification:#?}");
    drop(stranger);
    // Whoever is on call allows it.
    let text = fs::read_to_string(controller.config())?;
    fs::write(controller.config(), text.replace("interval = \"1s\"", "interval = \"1s\"\nself_heal_program = true"))?;
    controller.done(&["reload"])?;
    quiet(&controller)?;
    ensure!(web.requests(100)?.failed == 0);
    pinned.detach("eth0")?;
    says(&alarm(&controller, "BalancerProgramDetached")?, &["eth0", "put right"])?;
    quiet(&controller)?;
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

#[test]
fn without_self_healing_a_gap_stays_and_verify_says_no() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, "self_heal = false"))?;
    controller.wait_all_up()?;
    ensure!(verified(&controller)?.gaps.is_empty());
    let pinned = Pinned::of(controller.pin_dir());
    let slot = pinned.slot(0, 17)?;
    let other = Slot::closed(if slot == Slot::closed(3) { 1 } else { 3 });
    pinned.set_slots(0, [(17, other)])?;
    let output = controller.cli(&["verify"])?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("GAP planned -> kernel: web: slot 17 of 65537"), "{text}");
    ensure!(pinned.slot(0, 17)? == other, "it was put right");
    alarm(&controller, "BalancerTableDiffers")?;
    // The change that comes next takes the planned table for what was there, and not the other one.
    pinned.set_slots(0, [(17, slot)])?;
    quiet(&controller)
}

#[test]
fn a_file_that_is_not_what_runs_is_told_with_its_line() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, ""))?;
    controller.wait_all_up()?;
    quiet(&controller)?;
    let text = fs::read_to_string(controller.config())?;
    fs::write(controller.config(), text.replace("weight = 200", "weight = 20"))?;
    let line = text.lines().position(|line| line == "weight = 200").context("a line")? + 1;
    says(&alarm(&controller, "BalancerConfigFileDiffers")?, &[&format!("line {line}: weight = 20")])?;
    controller.done(&["reload"])?;
    quiet(&controller)
}

#[test]
fn webhooks_hear_of_alarms_and_of_their_end_also_after_a_receiver_failed() -> Result<()> {
    let mut web = Web::new(3)?;
    let receiver = Receiver::start(&web.lab.balancer)?;
    let webhook = |format: &str, path: &str| {
        let url = receiver.url(path);
        format!("[[webhook]]\nurl = \"{url}\"\nformat = \"{format}\"\nwait = \"0s\"\nrepeat = \"10s\"\n")
    };
    let webhooks = webhook("alertmanager", "/api/v2/alerts") + &webhook("json", "/hook");
    let controller = Controller::start(&web.lab.balancer, &config(&web, &webhooks))?;
    controller.wait_all_up()?;
    receiver.set_failing(true);
    web.servers[1].kill();
    alarm(&controller, "BalancerBackendDown")?;
    receiver.wait_until_refused(2, WITHIN)?;
    receiver.set_failing(false);
    let hook = receiver.wait_for("document", Duration::from_secs(8), |received| received.path == "/hook")?;
    let entry = &hook.body["alarms"][0];
    ensure!(hook.body["node"] == "lab" && entry["status"] == "firing" && entry["backend"] == "b1", "{hook:#?}");
    ensure!(entry["runbook"].as_str().is_some_and(|url| url.ends_with("#balancerbackenddown")), "{hook:#?}");
    let alert = receiver.wait_for("alert", Duration::from_secs(8), |received| received.path == "/api/v2/alerts")?;
    let labels = &alert.body[0]["labels"];
    ensure!(labels["alertname"] == "BalancerBackendDown" && labels["service"] == "web", "{alert:#?}");
    // It is said again while it lasts.
    receiver.wait_for("repetition", Duration::from_secs(14), |received| {
        received.path == "/hook"
            && received.at > hook.at + Duration::from_secs(5)
            && received.body["alarms"][0]["status"] == "firing"
    })?;
    web.servers[1] = harness::server::Server::start(&web.lab.backends[1], "b1", harness::web::PORT)?;
    receiver.wait_for("end", Duration::from_secs(8), |received| {
        received.path == "/hook" && received.body["alarms"][0]["status"] == "resolved"
    })?;
    // Alertmanager is told the end, which for what still lasts lies some repetitions ahead.
    let soon = || humantime::format_rfc3339_millis(SystemTime::now() + Duration::from_secs(20)).to_string();
    receiver.wait_for("resolved alert", Duration::from_secs(8), |received| {
        received.path == "/api/v2/alerts" && received.body[0]["endsAt"].as_str().is_some_and(|ends| *ends < *soon())
    })?;
    Ok(())
}
