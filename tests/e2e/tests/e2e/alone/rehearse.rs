//! Recorded traffic, rehearsed on another config, then really sent under it: the peaks are the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use balancer::control::api::{Rehearsed, RehearsedBackend};
use etherparse::PacketBuilder;
use harness::controller::{Controller, Proposed};
use harness::lab::VIP4;
use harness::running::Program;
use harness::web::{PORT, Web};
use nix::sys::signal::Signal;

const INTERVAL: Duration = Duration::from_secs(6);
/// A record is written at the first look after its interval; looks are a second apart.
const SETTLED: Duration = Duration::from_millis(1500);
/// New flows of an interval each. With 200,000 of them a sixth varies by half a percent.
const BURSTS: [u32; 3] = [60_000, 200_000, 100_000];
const BUSIEST: u32 = BURSTS[1];
/// How far a peak may be from what was predicted.
const TOLERANCE: f64 = 0.03;
const REDIRECT: u32 = 4;
const TX: u32 = 3;

struct Stage<'a> {
    controller: Controller<'a>,
    web: &'a Web,
    program: Program,
    /// Flows so far: none comes again.
    sent: u32,
}

/// Records are short, slots close soon, and a busy machine does not make a backend look dead.
fn config(web: &Web, weights: &[u32]) -> String {
    let service = web.service(weights).checked_each("500ms", "490ms", 2).more("[service.connections]\nquiet = \"1s\"");
    service.node(&format!("[profile]\ninterval = \"{}s\"", INTERVAL.as_secs())).text()
}

impl<'a> Stage<'a> {
    fn start(web: &'a Web, weights: &[u32]) -> Result<Self> {
        let controller = Controller::start(&web.lab.balancer, &config(web, weights))?;
        controller.wait_all_up()?;
        let program = Program::on(&web.lab.balancer, "eth0")?;
        Ok(Self { controller, web, program, sent: 0 })
    }

    fn restart(&mut self) -> Result<()> {
        self.controller.end(Signal::SIGTERM)?;
        self.controller.run()?;
        self.controller.wait_all_up()?;
        self.program = Program::on(&self.web.lab.balancer, "eth0")?;
        Ok(())
    }

    /// New flows of each backend so far.
    fn counted(&self) -> Result<Vec<u64>> {
        let status = self.controller.status()?;
        Ok(status.services[0].backends.iter().map(|backend| backend.new_flows).collect())
    }

    /// Sends so many SYNs within the next interval; answers how many of them each backend got.
    fn burst(&mut self, flows: u32) -> Result<Vec<u64>> {
        let number =
            || -> Result<u128> { Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() / INTERVAL.as_millis()) };
        let next = Duration::from_millis(((number()? + 1) * INTERVAL.as_millis()) as u64) + SETTLED;
        std::thread::sleep((UNIX_EPOCH + next).duration_since(SystemTime::now())?);
        let (before, began) = (self.counted()?, number()?);
        let ends = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]];
        let mut frame = Vec::new();
        for _ in 0..flows {
            self.sent += 1;
            let [_, b, c, d] = self.sent.to_be_bytes();
            let step = PacketBuilder::ethernet2(ends[0], ends[1]).ipv4([10, b, c, d], VIP4.octets(), 64);
            frame.clear();
            step.tcp(40_000, PORT, 1, 1000).syn().write(&mut frame, &[])?;
            let (answer, _) = self.program.run(&frame)?;
            ensure!([REDIRECT, TX].contains(&answer), "a SYN was answered with {answer}");
        }
        ensure!(number()? == began, "{flows} flows took longer than what was left of {INTERVAL:?}");
        Ok(self.counted()?.iter().zip(before).map(|(now, before)| now - before).collect())
    }

    /// The most of each backend over all bursts.
    fn bursts(&mut self) -> Result<Vec<u64>> {
        let mut most = vec![0; self.counted()?.len()];
        for flows in BURSTS {
            let got = self.burst(flows)?;
            most.iter_mut().zip(got).for_each(|(most, got)| *most = got.max(*most));
        }
        Ok(most)
    }

    /// A rehearsal whose exit code must be this one.
    fn rehearsed(&self, path: &str, code: i32) -> Result<Rehearsed> {
        let output = self.controller.cli(&["rehearse", path, "--profile", "all", "--json"])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{}: {said}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The config with other weights, beside the one in force; as many backends as weights.
    fn proposed(&self, weights: &[u32], capacity: Option<u32>) -> Result<Proposed> {
        let mut proposed = self.controller.propose(&[])?;
        let start = proposed.text.find("[profile]").context("no profile")?;
        let whole = config(self.web, weights);
        let body = &whole[whole.find("[profile]").context("no profile")?..];
        proposed.text.replace_range(start.., body);
        if let Some(capacity) = capacity {
            let capacity = format!("capacity = {{ new_flows_per_second = {capacity} }}\nweight = ");
            proposed.text = proposed.text.replace("weight = ", &capacity);
        }
        std::fs::write(&proposed.path, &proposed.text)?;
        Ok(proposed)
    }
}

/// Flows in the peak interval.
fn flows(peak: &balancer::control::api::RehearsedPeak) -> f64 {
    peak.new_flows_per_second * peak.seconds
}

fn agree(what: &str, predicted: f64, measured: u64) -> Result<f64> {
    let off = measured as f64 / predicted - 1.0;
    println!("{what}: {predicted:.0} flows predicted, {measured} measured, {:+.2} %", off * 100.0);
    ensure!(off.abs() <= TOLERANCE, "{what}: {predicted} predicted, {measured} measured");
    Ok(off)
}

#[test]
fn peaks_rehearsed_are_the_peaks_that_come() -> Result<()> {
    let web = Web::new(4)?;
    let mut stage = Stage::start(&web, &[100, 100, 100, 100])?;
    let other = stage.proposed(&[100, 200, 300], None)?;
    stage.controller.refused(&["rehearse", &other.path], &["no traffic is recorded", "nothing is recorded yet"])?;

    stage.bursts()?;
    let generation = stage.controller.status()?.generation;
    let rehearsed = stage.rehearsed(&other.path, 0)?;
    ensure!(stage.controller.status()?.generation == generation, "a rehearsal changes nothing");
    // A controller that starts does not count again what an earlier one has.
    stage.restart()?;
    ensure!(stage.rehearsed(&other.path, 0)?.services == rehearsed.services, "another peak after a restart");
    let service = &rehearsed.services[0];
    ensure!(flows(&service.peak).round() as u32 == BUSIEST && service.spread_evenly == 0, "{service:?}");
    ensure!(rehearsed.unknown.is_empty() && rehearsed.absent.is_empty() && rehearsed.broken == 0, "{rehearsed:?}");
    stage.controller.refused(
        &["rehearse", &other.path, "--profile", "2001-09-09"],
        &["no traffic is recorded of 2001-09-09", "there are: 2"],
    )?;

    let taken = ["--accept", "BAL016,BAL018,BAL019,BAL027", "--reason", "a test"];
    stage.controller.done(&[&["apply", &other.path][..], &taken].concat())?;
    let settled = |status: &balancer::control::api::Status| status.services[0].open_slots == 0;
    stage.controller.wait_for("all slots closed", Duration::from_secs(30), settled)?;
    let measured = stage.bursts()?;
    ensure!(measured.len() == 3, "{measured:?}");
    for (backend, got) in service.backends.iter().zip(measured) {
        agree(backend.name.as_str(), flows(&backend.peak), got)?;
    }

    // The same after a loss: that of b2 is the worst for the others.
    web.set_failing(2, true)?;
    let gone =
        |status: &balancer::control::api::Status| status.services[0].backends[2].share.kernel.unwrap_or(0.0) == 0.0;
    stage.controller.wait_for("the loss", Duration::from_secs(10), gone)?;
    let measured = stage.burst(BUSIEST)?;
    for (backend, got) in service.backends.iter().zip(measured).take(2) {
        let after = backend.after_loss.as_ref().context("a backend that no loss leaves")?;
        ensure!(after.without == "web/b2", "{after:?}");
        agree(&format!("{} without b2", backend.name), flows(&after.peak), got)?;
    }

    let exceeding = |rehearsed: &Rehearsed| -> Vec<bool> {
        rehearsed.services[0].backends.iter().map(|backend: &RehearsedBackend| backend.exceeds).collect()
    };
    // b2 gets half of everything, b1 two thirds without it, and b2 three quarters without b1.
    let peak = service.peak.new_flows_per_second;
    let enough = stage.proposed(&[100, 200, 300], Some((peak * 0.8) as u32))?;
    ensure!(exceeding(&stage.rehearsed(&enough.path, 0)?) == [false; 3]);
    let short = stage.proposed(&[100, 200, 300], Some((peak * 0.6) as u32))?;
    let rehearsed = stage.rehearsed(&short.path, 1)?;
    ensure!(exceeding(&rehearsed) == [false, true, true], "{rehearsed:?}");
    ensure!(rehearsed.services[0].backends.iter().all(|backend| backend.load.is_some_and(|load| load < 1.0)));
    let output = stage.controller.cli(&["rehearse", &short.path, "--profile", "all"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    ensure!(output.status.code() == Some(1) && said.contains("MORE THAN SOME BACKEND"), "{}: {said}", output.status);
    ensure!(said.contains("! web/b1 would get") && said.contains("of its capacity without web/b2"), "{said}");

    // Another seed gives flows other slots; another name is another service.
    let text = enough.text;
    std::fs::write(&enough.path, text.replacen("[node]", "[node]\nseed = 5", 1))?;
    let reseeded = stage.rehearsed(&enough.path, 0)?;
    ensure!(reseeded.services[0].spread_evenly > 0, "{reseeded:?}");
    std::fs::write(&enough.path, text.replacen("name = \"web\"", "name = \"shop\"", 1))?;
    let renamed = stage.rehearsed(&enough.path, 0)?;
    ensure!(renamed.services.is_empty() && renamed.unknown == ["shop".parse()?], "{renamed:?}");
    ensure!(renamed.absent[0].name == "web".parse()? && renamed.absent[0].new_flows > 0, "{renamed:?}");
    Ok(())
}
