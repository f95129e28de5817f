//! Going back always works: with a full disk, while connections live, over and over, and whatever system call fails. And what
//! somebody else wrote to the config file stays.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::{Reloaded, Status};
use balancer::history::{Outcome, digest};
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::inject;
use harness::lab::VIP4;
use harness::netns::run;
use harness::web::{PORT, Web};
use nix::sys::signal::Signal;

const TAKEN: [&str; 4] = ["--accept", "BAL016,BAL018,BAL019", "--reason", "a try"];
const SOON: Duration = Duration::from_secs(10);

/// A small disk in the place of the state directory.
struct Disk(PathBuf);

impl Disk {
    fn under(controller: &Controller<'_>) -> Result<Self> {
        let path = controller.state_dir();
        fs::create_dir_all(&path)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&path))?;
        Ok(Self(path))
    }

    fn fill(&self) -> Result<()> {
        // What comes after the last whole page is full too.
        let full = fs::write(self.0.join("filler"), vec![0; 2 << 20]);
        ensure!(full.is_err(), "the disk is too large");
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

fn apply(controller: &Controller<'_>, replaced: &[(&str, &str)], more: &[&str]) -> Result<Reloaded> {
    let file = controller.propose(replaced)?;
    controller.json(&[&["apply", &file.path][..], &TAKEN, more].concat())
}

fn has_alarm(status: &Status, name: &str, part: &str) -> bool {
    status.alarms.iter().any(|alarm| alarm.alarm == name && alarm.summary.contains(part))
}

fn all_written(controller: &Controller<'_>) -> Result<Status> {
    controller.wait_for("all on disk", SOON, |status| status.not_written.is_empty())
}

fn share_is(controller: &Controller<'_>, wanted: f64) -> Result<()> {
    let share = controller.shares()?[0];
    ensure!((share - wanted).abs() < 1e-4, "b0 has {share}, not {wanted}");
    Ok(())
}

#[test]
fn a_full_disk_is_in_nobodys_way_back() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::prepare(&web.lab.balancer, &web.config(&[100, 100]))?;
    let disk = Disk::under(&controller)?;
    controller.run()?;
    controller.wait_all_up()?;
    let first = fs::read_to_string(controller.config())?;
    apply(&controller, &[("weight = 100", "weight = 300")], &[])?;
    let second = fs::read_to_string(controller.config())?;
    apply(&controller, &[("weight = 300", "weight = 900")], &["--guard", "4s"])?;
    disk.fill()?;
    controller.wait_for("the end of the guard", SOON, |status| status.guard.is_none())?;
    share_is(&controller, 0.75)?;
    ensure!(fs::read_to_string(controller.config())? == second, "the config file was not put back");
    let told = |status: &Status| {
        has_alarm(status, "BalancerStateNotWritten", "No space left")
            && has_alarm(status, "BalancerChangeTakenBack", "was taken back")
    };
    controller.wait_for("alarms", SOON, told)?;
    // Forward needs the disk, back does not.
    controller.refused(&["weight", "web/b1", "50"], &["No space left"])?;
    share_is(&controller, 0.75)?;
    let said = controller.done(&["rollback"])?;
    // The history's line may still find room at the end of its file.
    ensure!(said.contains("not on disk: the number of the generation") && said.contains("75.00 %"), "{said}");
    share_is(&controller, 0.5)?;
    ensure!(fs::read_to_string(controller.config())? == first, "the config file was not put back");

    disk.free()?;
    all_written(&controller)?;
    let records = controller.records()?;
    let results: Vec<Outcome> = records.iter().map(|record| record.result).collect();
    ensure!(results[2] == Outcome::RolledBack && results.len() == 5, "{records:#?}");
    ensure!(records.windows(2).all(|pair| pair[0].generation < pair[1].generation), "{records:#?}");
    ensure!(controller.done(&["history", "--verify"])?.contains("5 generations"));

    // A controller that starts with such a disk takes back what nobody confirmed.
    apply(&controller, &[("weight = 100", "weight = 900")], &["--guard", "60s"])?;
    disk.fill()?;
    controller.end(Signal::SIGKILL)?;
    controller.run()?;
    share_is(&controller, 0.5)?;
    let status = controller.status()?;
    ensure!(status.guard.is_none() && !status.not_written.is_empty(), "{status:#?}");
    ensure!(fs::read_to_string(controller.config())? == first, "the config file was not put back");
    disk.free()?;
    all_written(&controller)?;
    ensure!(
        !controller.state_dir().join("guard.json").exists()
            || fs::read(controller.state_dir().join("guard.json"))? == b"null"
    );
    Ok(())
}

#[test]
fn another_mapping_is_taken_back_while_connections_live() -> Result<()> {
    let web = Web::new(3)?;
    let echo = web.service(&[100, 100, 100]).echo().more("affinity = \"flow\"\ntable_size = 4099").node("seed = 4711");
    let controller = Controller::start(&web.lab.balancer, &echo.text())?;
    controller.wait_all_up()?;
    let first = fs::read_to_string(controller.config())?;
    let progress = Arc::new(Progress::default());
    let (pause, patience) = (Duration::from_millis(50), Duration::from_secs(5));
    std::thread::scope(|scope| -> Result<()> {
        let mut held = Vec::new();
        let mut more = |wanted: u64| -> Result<()> {
            let (client, shared) = (&web.lab.client, &progress);
            held.push(scope.spawn(move || hold(client, (VIP4, PORT + 1).into(), 60, pause, patience, shared)));
            let deadline = Instant::now() + SOON;
            while progress.open.load(Ordering::Relaxed) < wanted {
                ensure!(Instant::now() < deadline && progress.broken() == 0, "{progress:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        };
        let done = (|| -> Result<()> {
            more(60)?;
            let changes: [&[(&str, &str)]; 5] = [
                &[("seed = 4711", "seed = 4712")],
                &[("table_size = 4099", "table_size = 1009")],
                &[("affinity = \"flow\"", "affinity = \"client\"")],
                &[("seed = 4711", "seed = 4713"), ("table_size = 4099", "table_size = 8209")],
                &[("address = \"192.0.2.10\"", "address = \"192.0.2.10/31\"")],
            ];
            for (round, change) in (1..).zip(changes) {
                apply(&controller, change, &[])?;
                more(60 + 60 * round)?;
                let back = controller.done(&["rollback"]).with_context(|| format!("{change:?}"))?;
                ensure!(fs::read_to_string(controller.config())? == first, "{back}");
                std::thread::sleep(2 * pause);
                ensure!(progress.broken() == 0, "after {change:?}: {progress:?}");
            }
            // The guard finds its way too, and so does a second change on top of the first.
            apply(&controller, changes[0], &[])?;
            let second = fs::read_to_string(controller.config())?;
            apply(&controller, changes[1], &["--guard", "4s"])?;
            controller.wait_for("the end of the guard", SOON, |status| status.guard.is_none())?;
            ensure!(fs::read_to_string(controller.config())? == second);
            ensure!(controller.records()?.iter().any(|record| record.result == Outcome::RolledBack));
            let exchanges = progress.exchanges.load(Ordering::Relaxed);
            let deadline = Instant::now() + SOON;
            while progress.exchanges.load(Ordering::Relaxed) < exchanges + 1000 {
                ensure!(Instant::now() < deadline && progress.broken() == 0, "{progress:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
            ensure!(controller.done(&["verify"]).is_ok(), "verify");
            Ok(())
        })();
        progress.stop.store(true, Ordering::Relaxed);
        for hold in held {
            hold.join().expect("the connections")?;
        }
        done
    })?;
    ensure!(progress.broken() == 0 && progress.refused.load(Ordering::Relaxed) == 0, "{progress:?}");
    println!("{progress:?}");
    Ok(())
}

#[test]
fn places_come_back_and_so_does_every_generation() -> Result<()> {
    let web = Web::new(2)?;
    let body = web.config(&[100, 100]) + "[limits]\nbackends = 64\n";
    let absent = |last: usize| format!("[[service.backend]]\nname = \"gone\"\naddress = \"10.77.0.{last}\"\n[limits]");
    let mut controller = Controller::start(&web.lab.balancer, &body.replace("[limits]", &absent(100)))?;
    controller.wait_for("b0", SOON, |status| status.services[0].backends[0].share.kernel.is_some_and(|s| s > 0.0))?;
    for round in 0..100 {
        controller.configure(&body.replace("[limits]", &absent(101 + round % 90)))?;
        controller.done(&["reload"]).with_context(|| format!("reload {round}"))?;
    }
    // A lost file gives no number twice.
    let before = controller.records()?.pop().context("no record")?.generation;
    controller.end(Signal::SIGTERM)?;
    fs::remove_file(controller.state_dir().join("generation.json"))?;
    controller.configure(&body)?;
    controller.run()?;
    controller.wait_all_up()?;
    apply(&controller, &[("weight = 100", "weight = 300")], &[])?;
    apply(&controller, &[("weight = 300", "weight = 900")], &[])?;
    let records = controller.records()?;
    ensure!(records.windows(2).all(|pair| pair[0].generation < pair[1].generation), "{records:#?}");
    ensure!(records.last().is_some_and(|last| last.generation > before + 1), "{before}: {records:#?}");
    // One further back each time, with the shares before and after.
    share_is(&controller, 0.9)?;
    let said = controller.done(&["rollback"])?;
    ensure!(said.contains("90.00 %") && said.contains("75.00 %"), "{said}");
    controller.done(&["rollback"])?;
    share_is(&controller, 0.5)?;
    apply(&controller, &[("weight = 100", "weight = 400")], &["--guard", "60s"])?;
    let said = controller.done(&["confirm"])?;
    ensure!(said.contains("80.00 %"), "{said}");
    Ok(())
}

#[test]
fn a_file_that_somebody_else_wrote_stays() -> Result<()> {
    let web = Web::new(2)?;
    let text = web.service(&[100, 100]).node("watch_config = false").text();
    let controller = Controller::start(&web.lab.balancer, &text)?;
    controller.wait_all_up()?;
    apply(&controller, &[("weight = 100", "weight = 300")], &[])?;
    let proposed = controller.propose(&[("weight = 300", "weight = 900")])?;
    let newer = fs::read_to_string(controller.config())? + "# edited meanwhile\n";
    fs::write(controller.config(), &newer)?;
    let asked = [&["apply", &proposed.path][..], &TAKEN].concat();
    controller.refused(&asked, &["was changed since the controller last read it", "nothing was applied"])?;
    share_is(&controller, 0.75)?;
    let said = controller.done(&["rollback"])?;
    ensure!(said.contains("left as it is"), "{said}");
    share_is(&controller, 0.5)?;
    ensure!(fs::read_to_string(controller.config())? == newer, "it was overwritten");
    controller.refused(&["verify"], &[])?;
    ensure!(has_alarm(
        &controller.wait_for("an alarm", SOON, |status| has_alarm(status, "BalancerConfigFileDiffers", ""))?,
        "BalancerConfigFileDiffers",
        ""
    ));
    controller.done(&["reload"])?;
    share_is(&controller, 0.75)?;
    ensure!(fs::read_to_string(controller.config())? == newer, "it was overwritten");
    controller.done(&asked)?;
    share_is(&controller, 0.9)
}

/// System calls and how they fail. Not `write`: with it, the runtime wakes its threads, which must not fail.
const FAULTS: [(&str, &str); 7] = [
    ("openat", "ENOSPC"),
    ("openat", "EMFILE"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("rename", "EROFS"),
    ("bpf", "ENOMEM"),
    ("mmap", "ENOMEM"),
];
/// At which of the calls of a kind; `FAULTS_ALL` takes forty of them.
const PLACES: [u32; 4] = [1, 2, 4, 7];

/// strace, which has this call fail: at which of them, such as `3`, or `1+` for all.
fn spoiler(controller: &Controller<'_>, call: &str, error: &str, place: &str) -> Result<Child> {
    inject::into(controller, call, &format!("error={error}:when={place}"))
}

#[test]
fn what_was_observed_is_not_forgotten_where_a_step_fails() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    let mut strace = spoiler(&controller, "bpf", "ENOMEM", "1+")?;
    web.set_failing(0, true)?;
    let deadline = Instant::now() + SOON;
    let failed =
        |log: &str| log.split_once("web/b0 is down").is_some_and(|(_, then)| then.contains("could not be written"));
    while !failed(&controller.log()) {
        ensure!(Instant::now() < deadline, "{}", controller.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    strace.kill()?;
    strace.wait()?;
    controller.wait_for("b0 without slots", SOON, |status| {
        status.services[0].backends[0].share.kernel.is_some_and(|share| share == 0.0)
    })?;
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

/// Kernel, file, history and status say the same; answers the first backend's weight.
fn agreed(controller: &Controller<'_>) -> Result<u32> {
    let status = controller.wait_for("one state", SOON, |status| {
        let weight = f64::from(status.services[0].backends[0].weight);
        // A table of 101 slots is exact to one of them.
        let near =
            |share: Option<f64>| share.is_some_and(|share| (share - weight / (weight + 100.0)).abs() < 1.0 / 101.0);
        status.not_written.is_empty() && near(status.services[0].backends[0].share.kernel)
    })?;
    let weight = status.services[0].backends[0].weight;
    let text = fs::read_to_string(controller.config())?;
    let last = controller.records()?.pop().context("no history")?;
    ensure!(last.content == digest(text.as_bytes()), "the history ends with {last:?}");
    let set = last.overrides.values().find_map(|set| set.weight);
    let of_file = if text.contains("weight = 300") { 300 } else { 100 };
    ensure!(set.unwrap_or(of_file) == weight, "{weight} is in force, {last:?} in the history");
    controller.done(&["history", "--verify"])?;
    Ok(weight)
}

#[test]
fn whatever_call_fails_kernel_file_history_and_answer_agree() -> Result<()> {
    let web = Web::new(2)?;
    let text = web.config(&[100, 100]).replace("forward = \"l2\"", "forward = \"l2\"\ntable_size = 101");
    let controller = Controller::start(&web.lab.balancer, &text)?;
    controller.wait_all_up()?;
    let (first, all) = (agreed(&controller)?, std::env::var_os("FAULTS_ALL").is_some());
    ensure!(first == 100);
    let places = if all { (1..=40).collect() } else { PLACES.to_vec() };
    let (mut done, mut refused) = (0, 0);
    for (call, error) in FAULTS {
        for (at, place) in places.iter().enumerate() {
            // In turns, so that each kind of change meets each fault; all of them in the long form.
            for action in 0..4 {
                if !all && (at + action) % 2 == 1 {
                    continue;
                }
                let what = format!("{call} {error} {place}, action {action}");
                let file = controller.propose(&[("weight = 100", "weight = 300")])?.path;
                let apply = [&["apply", &file][..], &TAKEN].concat();
                let (args, wanted) = match action {
                    0 => (vec!["weight", "web/b0", "300"], 300),
                    1 => (apply, 300),
                    2 => {
                        controller.done(&apply)?;
                        (vec!["rollback"], 100)
                    }
                    _ => {
                        controller.done(&[&apply[..], &["--guard", "60s"]].concat())?;
                        (vec!["rollback"], 100)
                    }
                };
                let mut strace = spoiler(&controller, call, error, &place.to_string())?;
                let output = controller.cli(&args)?;
                strace.kill()?;
                strace.wait()?;
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                match output.status.code() {
                    Some(0) => {
                        done += 1;
                        ensure!(agreed(&controller).context(what.clone())? == wanted, "{what}: {said}");
                    }
                    Some(1) => {
                        refused += 1;
                        if action < 3 {
                            let other = if wanted == 300 { 100 } else { 300 };
                            ensure!(agreed(&controller).context(what.clone())? == other, "{what}: {said}");
                        }
                    }
                    // It was not the change that failed but the answer's way.
                    _ => {}
                }
                if controller.status()?.guard.is_some() {
                    controller.done(&["rollback"])?;
                }
                controller.done(&["weight", "web/b0", "--reset"])?;
                if agreed(&controller).context(what.clone())? != 100 {
                    let file = controller.propose(&[("weight = 300", "weight = 100")])?.path;
                    controller.done(&[&["apply", &file][..], &TAKEN].concat()).context(what)?;
                }
            }
        }
    }
    println!("{done} done, {refused} refused");
    ensure!(done > 10 && refused > 5, "{done} done, {refused} refused");
    Ok(())
}
