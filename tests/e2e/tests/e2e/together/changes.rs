//! A change is checked, planned, applied whole and recorded, and what was before can be had again.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use balancer::control::api::{ChangeKind, Code, Generation, Plan, Refused, Reloaded, Risk};
use harness::controller::{Controller, Proposed};
use harness::web::Web;
use nix::sys::signal::Signal;

#[test]
fn what_a_plan_says_is_what_applying_it_does() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let same = controller.propose(&[])?;
    let nothing = controller.json::<Plan>(&["plan", &same.path])?;
    ensure!(nothing.services.is_empty() && nothing.risk == Risk::None, "{nothing:#?}");

    let file = controller.propose(&[("weight = 100", "weight = 400")])?;
    let planned = controller.json::<Plan>(&["plan", &file.path])?;
    let service = &planned.services[0];
    ensure!(service.change == ChangeKind::Changed && planned.risk >= Risk::Medium, "{planned:#?}");
    ensure!(planned.warnings.iter().any(|warning| warning.id == "BAL016" && warning.new), "{planned:#?}");
    // The least that can move is what the heavier one gains.
    let gained = (400.0 / 600.0 - 1.0 / 3.0) * f64::from(service.slots);
    ensure!(f64::from(service.slots_moved) >= gained - 1.0 && service.slots_moved < service.slots, "{planned:#?}");

    // Connections of before the plan, of which those on slots that move follow their backend.
    ensure!(web.requests(600)?.failed == 0);
    let planned = controller.json::<Plan>(&["plan", &file.path])?;
    let following = planned.services[0].flows_following.context("no flows")? as f64;
    let moving = 600.0 * f64::from(service.slots_moved) / f64::from(service.slots);
    ensure!((following - moving).abs() < 100.0, "{following} follow, not {moving}");

    // A dry run changes nothing; a warning that nobody accepted stops the change, and so does an unknown reason.
    let base = ["apply", &file.path, "--plan", &planned.id];
    let apply = |more: &[&'static str]| [&base[..], more].concat();
    let taken: &[&'static str] = &["--accept", "BAL016,BAL019", "--reason", "b0 is the new machine"];
    controller.done(&[&apply(taken)[..], &["--dry-run"]].concat())?;
    controller.refused(&apply(&[]), &["[BAL016]", "[BAL019]", "--accept BAL016 --accept BAL019 --reason"])?;
    controller.refused(&apply(&["--accept", "BAL016,BAL019"]), &["--reason"])?;
    controller.refused(&apply(&["--accept", "BAL999", "--reason", "x"]), &["no finding BAL999"])?;
    ensure!(controller.json::<Plan>(&["plan", &file.path])?.id == planned.id, "something changed");

    let applied: Reloaded = controller.json(&apply(taken))?;
    ensure!(applied.changed.len() == 1 && applied.warnings.len() == 2, "{applied:?}");
    ensure!(fs::read_to_string(controller.config())? == file.text, "the config's file is not what is in force");
    for (backend, share) in service.backends.iter().zip(controller.shares()?) {
        ensure!(backend.share_after == Some(share), "{backend:?}, but {share} in the kernel");
    }
    // The same once more, on the plan from before.
    controller.refused(&apply(taken), &["is stale"])
}

#[test]
fn a_plan_refuses_what_apply_refuses_also_as_json() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    let refused = |file: &Proposed, wanted: &str| -> Result<Refused> {
        let mut last = Refused::default();
        for command in [&["plan"][..], &["apply", "--dry-run"], &["apply"]] {
            let command = [command, &[file.path.as_str()]].concat();
            controller.refused(&command, &[wanted])?;
            let output = controller.cli(&[&command[..], &["--json"]].concat())?;
            ensure!(output.status.code() == Some(1), "{command:?}: {}", output.status);
            last = serde_json::from_slice(&output.stdout)?;
            ensure!(last.code == Code::Refused && last.error.contains(wanted), "{command:?}: {last:?}");
        }
        Ok(last)
    };
    let listen = ("http_listen = \"127.0.0.1:9405\"", "http_listen = \"127.0.0.1:9406\"");
    refused(&controller.propose(&[listen])?, "node.http_listen can't change while the controller runs")?;
    refused(&controller.propose(&[("name = \"eth0\"", "name = \"eth7\"")])?, "there is no interface eth7")?;
    let broken = refused(&controller.propose(&[("weight = 100", "wieght = 100")])?, "unknown key `wieght`")?;
    ensure!(broken.findings.iter().any(|found| found.help == "did you mean `weight`?"), "{broken:?}");

    // Nobody waits for a file that is wrong in every line, and its answer can be read.
    let file = controller.propose(&[])?;
    fs::write(&file.path, (0..300_000).map(|n| format!("key{n} = 1\n")).collect::<String>())?;
    std::thread::scope(|scope| {
        let planning = scope.spawn(|| controller.cli(&["plan", &file.path]));
        let mut longest = Duration::ZERO;
        while !planning.is_finished() {
            let start = Instant::now();
            controller.status()?;
            longest = longest.max(start.elapsed());
        }
        let Ok(output) = planning.join() else { bail!("the thread panicked") };
        let said = String::from_utf8(output?.stderr)?;
        ensure!(said.contains("299901 more findings not shown\n300001 errors found"), "{said:.200}");
        ensure!(said.len() < 100_000 && longest < Duration::from_secs(1), "{} bytes, {longest:?}", said.len());
        Ok(())
    })
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
    let file = controller.propose(&[less])?;
    controller.refused(&["apply", &file.path], &["[BAL012]", "125 %", "nothing was applied"])?;
    controller.refused(&["plan", &file.path], &["[BAL012]"])?;
    ensure!(controller.status()?.config_refused.is_none(), "the file on disk is what runs");
    // A start and a reload are no other way in.
    let good = fs::read_to_string(controller.config())?;
    fs::write(controller.config(), &file.text)?;
    controller.refused(&["reload"], &["[BAL012]"])?;
    ensure!(controller.shares()? == [controller.shares()?[0], 1.0 - controller.shares()?[0]]);
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
    controller.refused(&["weight", "web/b0", "900"], &["[BAL012]", "149 %", "--accept BAL012 --reason"])?;
    ensure!((controller.shares()?[0] - 1.0 / 3.0).abs() < 1e-4, "it was applied");
    controller.refused(&["drain", "web/b1"], &["[BAL013]", "182 %", "--accept BAL013 --reason"])?;
    controller.done(&["drain", "web/b1", "--accept", "BAL013", "--reason", "a new disk"])?;
    controller.refused(&["drain", "web/b2"], &["[BAL012]", "182 %"])?;
    let taken = ["drain", "web/b2", "--accept", "BAL012", "--reason", "the rack burns"];
    controller.done(&taken)?;
    ensure!(controller.shares()?[0] == 1.0);
    let records = controller.records()?;
    let last = records.last().context("no history")?;
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
    let file = controller.propose(&[("weight = 100", "weight = 300")])?;
    controller.done(&["apply", &file.path, "--accept", "BAL016,BAL019", "--reason", "b0 is larger"])?;
    controller.done(&["weight", "web/b1", "600"])?;
    let records = controller.records()?;
    ensure!(records.len() == 3, "{records:#?}");
    ensure!(records[0].command.starts_with("start with ") && records[1].command.starts_with("apply "), "{records:#?}");
    let [start, applied, weight] = [0, 1, 2].map(|at| records[at].generation.to_string());
    let shown: Generation = controller.json(&["show", &applied])?;
    ensure!(shown.text == file.text && shown.record == records[1], "{shown:#?}");
    let diff = controller.done(&["diff", &start, &applied])?;
    ensure!(diff.contains("-weight = 100\n") && diff.contains("+weight = 300\n"), "{diff}");
    let diff = controller.done(&["diff", &applied, &weight])?;
    ensure!(diff.contains("are the same") && diff.contains("web/b1"), "{diff}");

    // Back over the command, back over the file, and to a number; the third is in force after a restart too.
    controller.done(&["rollback"])?;
    ensure!((controller.shares()?[0] - 0.75).abs() < 1e-4, "{:?}", controller.shares()?);
    controller.done(&["rollback", &start, "--reason", "as it was"])?;
    ensure!((controller.shares()?[0] - 0.5).abs() < 1e-4 && fs::read_to_string(controller.config())? == first);
    controller.done(&["rollback", &weight])?;
    let third = controller.shares()?;
    ensure!((third[0] - 1.0 / 3.0).abs() < 1e-4, "{third:?}");
    let before = controller.records()?;
    controller.end(Signal::SIGKILL)?;
    controller.run()?;
    let (shares, after) = (controller.shares()?, controller.records()?);
    ensure!(shares == third && after == before, "{shares:?}\n{after:#?}\nafter\n{before:#?}");
    controller.refused(&["rollback", "4711"], &["no generation 4711", &weight])?;

    ensure!(controller.done(&["history", "--verify"])?.contains("6 generations"));
    controller.end(Signal::SIGTERM)?;
    let path = controller.state_dir().join("history.json");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replacen("as it was", "as it is", 1))?;
    controller.run()?;
    controller.refused(&["history", "--verify"], &["was changed"])
}
