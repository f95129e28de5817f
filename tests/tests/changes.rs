//! A change is checked, planned, applied whole and recorded, and what was before can be had again.

use std::fs;

use anyhow::{Context, Result, ensure};
use balancer::control::api::{ChangeKind, Generation, History, Plan, Reloaded, Risk};
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

/// The web service with these weights, in a file beside the controller's.
struct Proposed {
    path: std::path::PathBuf,
    text: String,
}

/// A file with the controller's config in which one text stands in the place of another.
fn proposed(controller: &Controller<'_>, replaced: &[(&str, &str)]) -> Result<Proposed> {
    let mut text = fs::read_to_string(controller.config())?;
    for (usual, other) in replaced {
        ensure!(text.contains(usual), "no {usual:?} in\n{text}");
        text = text.replacen(usual, other, 1);
    }
    let path = controller.config().with_file_name("proposed.toml");
    fs::write(&path, &text)?;
    Ok(Proposed { path, text })
}

impl Proposed {
    fn path(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }
}

fn refused(controller: &Controller<'_>, args: &[&str], wanted: &[&str]) -> Result<()> {
    let output = controller.cli(args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{args:?}: {}: {said}", output.status);
    for part in wanted {
        ensure!(said.contains(part), "no {part:?} in {said}");
    }
    Ok(())
}

fn plan(controller: &Controller<'_>, file: &str) -> Result<Plan> {
    Ok(serde_json::from_str(&controller.done(&["plan", file, "--json"])?)?)
}

fn shares(controller: &Controller<'_>) -> Result<Vec<f64>> {
    let status = controller.status()?;
    Ok(status.services[0].backends.iter().map(|backend| backend.share.kernel.unwrap_or(0.0)).collect())
}

#[test]
fn what_a_plan_says_is_what_applying_it_does() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let same = proposed(&controller, &[])?;
    let nothing = plan(&controller, same.path())?;
    ensure!(nothing.services.is_empty() && nothing.risk == Risk::None, "{nothing:#?}");

    let file = proposed(&controller, &[("weight = 100", "weight = 400")])?;
    let planned = plan(&controller, file.path())?;
    let service = &planned.services[0];
    ensure!(service.change == ChangeKind::Changed && planned.risk >= Risk::Medium, "{planned:#?}");
    ensure!(planned.warnings.iter().any(|warning| warning.id == "BAL016" && warning.new), "{planned:#?}");
    // The least that can move is what the heavier one gains.
    let gained = (400.0 / 600.0 - 1.0 / 3.0) * f64::from(service.slots);
    ensure!(f64::from(service.slots_moved) >= gained - 1.0 && service.slots_moved < service.slots, "{planned:#?}");

    // Connections of before the plan, of which those on slots that move follow their backend.
    ensure!(web.requests(600)?.failed == 0);
    let planned = plan(&controller, file.path())?;
    let following = planned.services[0].flows_following.context("no flows")? as f64;
    let moving = 600.0 * f64::from(service.slots_moved) / f64::from(service.slots);
    ensure!((following - moving).abs() < 100.0, "{following} follow, not {moving}");

    // A dry run changes nothing; a warning that nobody accepted stops the change, and so does an unknown reason.
    let base = ["apply", file.path(), "--plan", &planned.id];
    let apply = |more: &[&'static str]| [&base[..], more].concat();
    let taken: &[&'static str] = &["--accept", "BAL016,BAL019", "--reason", "b0 is the new machine"];
    controller.done(&[&apply(taken)[..], &["--dry-run"]].concat())?;
    refused(&controller, &apply(&[]), &["[BAL016]", "[BAL019]", "--accept BAL016 --accept BAL019 --reason"])?;
    refused(&controller, &apply(&["--accept", "BAL016,BAL019"]), &["--reason"])?;
    refused(&controller, &apply(&["--accept", "BAL999", "--reason", "x"]), &["no finding BAL999"])?;
    ensure!(plan(&controller, file.path())?.id == planned.id, "something changed");

    let applied: Reloaded = serde_json::from_str(&controller.done(&[&apply(taken)[..], &["--json"]].concat())?)?;
    ensure!(applied.changed.len() == 1 && applied.warnings.len() == 2, "{applied:?}");
    ensure!(fs::read_to_string(controller.config())? == file.text, "the config's file is not what is in force");
    for (backend, share) in service.backends.iter().zip(shares(&controller)?) {
        ensure!(backend.share_after == Some(share), "{backend:?}, but {share} in the kernel");
    }
    // The same once more, on the plan from before.
    refused(&controller, &apply(taken), &["is stale"])
}

#[test]
fn what_can_not_be_carried_is_stopped_whoever_asks() -> Result<()> {
    let web = Web::new(2)?;
    let sized = |text: String| {
        let peak = "[service.peak]\nnew_flows_per_second = 1000\n[[service.backend]]";
        let text = text.replacen("[[service.backend]]", peak, 1);
        text.replace("weight = ", "capacity = { new_flows_per_second = 1200 }\nweight = ")
    };
    let mut controller = Controller::start(&web.lab.balancer, &sized(web.config(&[100, 100])))?;
    controller.wait_all_up()?;
    let less = ("new_flows_per_second = 1200", "new_flows_per_second = 400");
    let file = proposed(&controller, &[less])?;
    refused(&controller, &["apply", file.path()], &["[BAL012]", "125 %", "nothing was applied"])?;
    refused(&controller, &["plan", file.path()], &["[BAL012]"])?;
    ensure!(controller.status()?.config_refused.is_none(), "the file on disk is what runs");
    // A start and a reload are no other way in.
    let good = fs::read_to_string(controller.config())?;
    fs::write(controller.config(), &file.text)?;
    refused(&controller, &["reload"], &["[BAL012]"])?;
    ensure!(shares(&controller)? == [shares(&controller)?[0], 1.0 - shares(&controller)?[0]]);
    controller.end(Signal::SIGTERM)?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("[BAL012]"), "{error}");
    ensure!(web.requests(100)?.failed == 0, "what ran before runs on");
    fs::write(controller.config(), good)?;
    controller.run()
}

#[test]
fn a_command_that_would_overload_needs_a_reason() -> Result<()> {
    let web = Web::new(3)?;
    let sized = |text: String| {
        let peak = "[service.peak]\nnew_flows_per_second = 1000\n[[service.backend]]";
        let text = text.replacen("[[service.backend]]", peak, 1);
        text.replace("weight = ", "capacity = { new_flows_per_second = 550 }\nweight = ")
    };
    let controller = Controller::start(&web.lab.balancer, &sized(web.config(&[100, 100, 100])))?;
    controller.wait_all_up()?;
    refused(&controller, &["weight", "web/b0", "900"], &["[BAL012]", "149 %", "--accept BAL012 --reason"])?;
    ensure!((shares(&controller)?[0] - 1.0 / 3.0).abs() < 1e-4, "it was applied");
    controller.done(&["drain", "web/b1"])?;
    refused(&controller, &["drain", "web/b2"], &["[BAL012]", "182 %"])?;
    let taken = ["drain", "web/b2", "--accept", "BAL012", "--reason", "the rack burns"];
    controller.done(&taken)?;
    ensure!(shares(&controller)?[0] == 1.0);
    let history: History = serde_json::from_str(&controller.done(&["history", "--json"])?)?;
    let last = history.records.last().context("no history")?;
    ensure!(last.reason.as_deref() == Some("the rack burns") && last.accepted == ["BAL012"], "{last:?}");
    ensure!(last.command == "drain of web/b2" && last.uid == Some(0), "{last:?}");
    Ok(())
}

#[test]
fn every_generation_can_be_had_again_and_nobody_can_change_it() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    let first = fs::read_to_string(controller.config())?;
    let file = proposed(&controller, &[("weight = 100", "weight = 300")])?;
    controller.done(&["apply", file.path(), "--accept", "BAL016,BAL019", "--reason", "b0 is larger"])?;
    controller.done(&["weight", "web/b1", "600"])?;
    let history = |controller: &Controller<'_>| -> Result<History> {
        Ok(serde_json::from_str(&controller.done(&["history", "--json"])?)?)
    };
    let records = history(&controller)?.records;
    ensure!(records.len() == 3, "{records:#?}");
    ensure!(records[0].command.starts_with("start with ") && records[1].command.starts_with("apply "), "{records:#?}");
    let [start, applied, weight] = [0, 1, 2].map(|at| records[at].generation.to_string());
    let shown: Generation = serde_json::from_str(&controller.done(&["show", &applied, "--json"])?)?;
    ensure!(shown.text == file.text && shown.record == records[1], "{shown:#?}");
    let diff = controller.done(&["diff", &start, &applied])?;
    ensure!(diff.contains("-weight = 100\n") && diff.contains("+weight = 300\n"), "{diff}");
    let diff = controller.done(&["diff", &applied, &weight])?;
    ensure!(diff.contains("are the same") && diff.contains("web/b1"), "{diff}");

    // Back over the command, back over the file, and to a number; the third is in force after a restart too.
    controller.done(&["rollback"])?;
    ensure!((shares(&controller)?[0] - 0.75).abs() < 1e-4, "{:?}", shares(&controller)?);
    controller.done(&["rollback", &start, "--reason", "as it was"])?;
    ensure!((shares(&controller)?[0] - 0.5).abs() < 1e-4 && fs::read_to_string(controller.config())? == first);
    controller.done(&["rollback", &weight])?;
    let third = shares(&controller)?;
    ensure!((third[0] - 1.0 / 3.0).abs() < 1e-4, "{third:?}");
    let before = history(&controller)?;
    controller.end(Signal::SIGKILL)?;
    controller.run()?;
    let (shares, after) = (shares(&controller)?, history(&controller)?);
    ensure!(shares == third && after.records == before.records, "{shares:?}\n{after:#?}\nafter\n{before:#?}");
    refused(&controller, &["rollback", "4711"], &["no generation 4711", &weight])?;

    ensure!(controller.done(&["history", "--verify"])?.contains("6 generations"));
    controller.end(Signal::SIGTERM)?;
    let path = controller.state_dir().join("history.json");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replacen("as it was", "as it is", 1))?;
    controller.run()?;
    refused(&controller, &["history", "--verify"], &["was changed"])
}
