//! The controller is killed at system calls of an apply, one after the other, while connections talk: none breaks, and a start
//! finds or makes one state of which the file, the kernel, the history and the status say the same.

use std::fs;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::history::digest;
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::inject;
use harness::web::{PORT, Web};

/// What changes something, in the kernel or on disk.
const CALLS: [&str; 6] = ["bpf", "fsync", "fdatasync", "rename", "openat", "write"];
/// At which of the calls of a kind that an apply makes, which at some place makes no more. `CRASH_ALL` takes each of them.
const PLACES: [u32; 15] = [1, 2, 3, 4, 5, 6, 8, 11, 15, 20, 30, 50, 80, 120, 180];

fn places() -> Vec<u32> {
    if std::env::var_os("CRASH_ALL").is_some() { (1..10_000).collect() } else { PLACES.to_vec() }
}

/// strace, which kills the controller at this call.
fn killer(controller: &Controller<'_>, call: &str, place: u32) -> Result<Child> {
    inject::into(controller, call, &format!("signal=SIGKILL:when={place}"))
}

fn alive(controller: &Controller<'_>) -> bool {
    let stat = controller.pid().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
    // A process that ended and was not waited for is a zombie.
    stat.is_some_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// One state, and which: the first backend's weight.
fn agreed(controller: &Controller<'_>) -> Result<u32> {
    let text = fs::read_to_string(controller.config())?;
    let weight = if text.contains("weight = 300") { 300 } else { 100 };
    ensure!(text.matches("weight = ").count() == 2, "half a file:\n{text}");
    let wanted = f64::from(weight) / f64::from(weight + 100);
    let status = controller.wait_all_up()?;
    let backend = &status.services[0].backends[0];
    // A table of 101 slots is exact to one of them.
    let near = |share: Option<f64>| share.is_some_and(|share| (share - wanted).abs() < 1.0 / 101.0);
    ensure!(
        backend.weight == weight && near(backend.share.kernel) && near(backend.share.planned),
        "{weight}: {backend:?}"
    );
    controller.done(&["history", "--verify"])?;
    let records = controller.records()?;
    let last = records.last().context("no history")?;
    ensure!(last.content == digest(text.as_bytes()), "the history ends with {last:?}");
    Ok(weight)
}

/// The weight by command: the same on disk, in the kernel, in the history and in what the controller says.
fn commanded(controller: &Controller<'_>) -> Result<u32> {
    let status = controller.wait_all_up()?;
    let backend = &status.services[0].backends[0];
    let wanted = f64::from(backend.weight) / f64::from(backend.weight + 100);
    ensure!(backend.share.kernel.is_some_and(|share| (share - wanted).abs() < 1e-3), "{backend:?}");
    controller.done(&["history", "--verify"])?;
    let records = controller.records()?;
    let last = records.last().context("no history")?;
    let recorded = last.overrides.values().next().and_then(|set| set.weight);
    ensure!(recorded.unwrap_or(100) == backend.weight, "{backend:?}, and the history ends with {last:?}");
    Ok(backend.weight)
}

#[test]
fn no_crash_in_a_weight_leaves_half_of_it() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    let (mut killed, mut weight) = (0, 200);
    // Its files: what commands set, the generation's number twice, the history.
    for (call, places) in [("fsync", 1..=4), ("fdatasync", 1..=2), ("rename", 1..=6), ("bpf", 5..=5)] {
        for place in places {
            let before = commanded(&controller)?;
            weight += 1;
            let mut strace = killer(&controller, call, place)?;
            let asked = ["weight", "web/b0", &weight.to_string(), "--accept", "BAL016,BAL019", "--reason", "a try"];
            let is_done = controller.cli(&asked)?.status.success();
            if is_done {
                strace.kill()?;
            } else {
                controller.ended()?;
                killed += 1;
            }
            strace.wait()?;
            if !is_done {
                controller.run().with_context(|| format!("after a kill at {call} {place}"))?;
            }
            let after = commanded(&controller).with_context(|| format!("after {call} {place}"))?;
            ensure!(after == weight || (after == before && !is_done), "after {call} {place}: {before}, then {after}");
            if is_done {
                break;
            }
        }
    }
    ensure!(killed >= 5, "{killed} kills");
    Ok(())
}

#[test]
fn no_crash_in_an_apply_leaves_half_of_it_or_breaks_a_connection() -> Result<()> {
    let web = Web::new(2)?;
    let config = |weight: u32| web.service(&[weight, 100]).echo().more("table_size = 101").text();
    let mut controller = Controller::start(&web.lab.balancer, &config(100))?;
    controller.wait_all_up()?;
    let progress = Arc::new(Progress::default());
    let (mut killed, mut survived) = (0, 0);
    std::thread::scope(|scope| -> Result<()> {
        let (client, shared) = (&web.lab.client, &progress);
        let (pause, patience) = (Duration::from_millis(200), Duration::from_secs(5));
        let address = (harness::lab::VIP4, PORT + 1).into();
        let holding = scope.spawn(move || hold(client, address, 100, pause, patience, shared));
        let done = (|| -> Result<()> {
            for call in CALLS {
                for place in places() {
                    let weight = agreed(&controller)?;
                    let other = if weight == 100 { "weight = 300" } else { "weight = 100" };
                    let file = controller.propose(&[(&format!("weight = {weight}"), other)])?;
                    let mut strace = killer(&controller, call, place)?;
                    let args = ["apply", &file.path, "--accept", "BAL016,BAL018,BAL019", "--reason", "a try"];
                    let output = controller.cli(&args)?;
                    let dead = !output.status.success();
                    if dead {
                        let deadline = Instant::now() + Duration::from_secs(5);
                        while alive(&controller) {
                            let said = String::from_utf8_lossy(&output.stderr);
                            ensure!(Instant::now() < deadline, "it lives after {call} {place}: {said}");
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        controller.ended()?;
                        strace.wait()?;
                        controller.run().with_context(|| format!("after a kill at {call} {place}"))?;
                        killed += 1;
                    } else {
                        strace.kill()?;
                        strace.wait()?;
                        if !alive(&controller) {
                            controller.ended()?;
                            controller.run()?;
                        }
                        survived += 1;
                    }
                    agreed(&controller).with_context(|| format!("after {call} {place}"))?;
                    ensure!(progress.broken() == 0, "after {call} {place}: {progress:?}");
                    if !dead {
                        break;
                    }
                }
            }
            Ok(())
        })();
        progress.stop.store(true, Ordering::Relaxed);
        holding.join().expect("the connections")?;
        done
    })?;
    println!("{killed} kills, {survived} applies that were over before; {progress:?}");
    ensure!(killed > 20 && progress.broken() == 0 && progress.exchanges.load(Ordering::Relaxed) > 1000, "{progress:?}");
    Ok(())
}
