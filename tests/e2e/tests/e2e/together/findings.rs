//! The first outage as it really happened: weights that nobody questioned. Whichever way they come in, somebody is woken within
//! seconds, and what the runbook says ends it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::alarm::Severity;
use balancer::control::api::{ConfigFinding, Status};
use harness::client;
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(5);
const EVEN: [u32; 3] = [100; 3];
/// 90 % for one, for no reason that anybody wrote down.
const UNEVEN: [u32; 3] = [900, 50, 50];
const NAME: &str = "BalancerConfigFinding";

fn finding<'s>(status: &'s Status, id: &str) -> Option<&'s ConfigFinding> {
    status.findings.iter().find(|finding| finding.id == id)
}

fn pages(status: &Status) -> bool {
    status.alarms.iter().any(|alarm| {
        alarm.alarm == NAME && alarm.severity == Severity::Critical && alarm.subject.entry.as_deref() == Some("BAL016")
    })
}

struct Shop<'a> {
    web: &'a Web,
    controller: Controller<'a>,
}

impl Shop<'_> {
    fn metrics(&self) -> Result<String> {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9405);
        let scrape = || client::http(address, "GET", "/metrics", Vec::new());
        let answer = self.web.lab.balancer.block_on(scrape)??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Waits until the metrics have a line. Scrapes within a second share one answer.
    fn measured(&self, line: &str) -> Result<()> {
        let deadline = Instant::now() + SOON;
        loop {
            let metrics = self.metrics()?;
            if metrics.lines().any(|there| there == line) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no {line}\n{metrics}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Somebody is woken, the status and the metrics say by what, and so does the history.
    fn paged(&self, door: &str) -> Result<()> {
        let status = self.controller.wait_for(&format!("{door} pages"), SOON, pages)?;
        let found = finding(&status, "BAL016").context("it is in the status")?;
        ensure!(found.accepted.is_none() && found.service.as_ref().is_some_and(|name| name.as_str() == "web"));
        for line in [
            "balancer_config_finding{id=\"BAL016\",severity=\"warning\",service=\"web\"} 1",
            "balancer_alarm_active{alarm=\"BalancerConfigFinding\",severity=\"critical\",service=\"web\",backend=\"\",\
             entry=\"BAL016\"} 1",
        ] {
            self.measured(line).with_context(|| door.to_owned())?;
        }
        let records = self.controller.records()?;
        let last = records.last().context("a record")?;
        ensure!(last.findings.iter().any(|id| id == "BAL016"), "{door}: {last:#?}");
        Ok(())
    }

    fn over(&self, how: &str) -> Result<()> {
        let quiet = |status: &Status| status.alarms.iter().all(|alarm| alarm.alarm != NAME);
        self.controller.wait_for(&format!("{how} ends it"), SOON, quiet).map(drop)
    }

    fn file(&self) -> String {
        self.controller.config().display().to_string()
    }

    fn last(&self) -> Result<String> {
        Ok(self.controller.records()?.last().context("a record")?.generation.to_string())
    }
}

#[test]
fn uneven_weights_wake_somebody_whichever_way_they_come_in() -> Result<()> {
    let web = Web::new(3)?;
    let (even, uneven) = (web.config(&EVEN), web.config(&UNEVEN));
    let mut shop = Shop { web: &web, controller: Controller::start(&web.lab.balancer, &uneven)? };
    shop.paged("a start")?;
    let entry = shop.controller.done(&["runbook", NAME])?;
    for part in ["balancer apply FILE", "balancer rollback", "--reset", "--accept BAL016 --reason"] {
        ensure!(entry.contains(part), "no {part:?} in\n{entry}");
    }
    // The runbook: correct the file, look at the plan, apply it.
    shop.controller.configure(&even)?;
    shop.controller.done(&["plan", &shop.file()])?;
    shop.controller.done(&["apply", &shop.file()])?;
    shop.over("a corrected file")?;
    let good = shop.last()?;

    shop.controller.configure(&uneven)?;
    shop.controller.signal(Signal::SIGHUP)?;
    shop.paged("SIGHUP")?;
    let bad = shop.last()?;
    shop.controller.done(&["rollback"])?;
    shop.over("a rollback")?;

    shop.controller.done(&["rollback", &bad])?;
    shop.paged("a rollback")?;
    shop.controller.done(&["rollback", &good])?;
    shop.over("a rollback")?;

    let said = shop.controller.done(&["weight", "web/b0", "1800"])?;
    ensure!(said.contains("[BAL016]"), "{said}");
    shop.paged("a weight")?;
    shop.controller.done(&["weight", "web/b0", "--reset"])?;
    shop.over("a reset")?;

    shop.controller.configure(&uneven)?;
    shop.controller.done(&["reload"])?;
    shop.paged("a reload")?;
    // Meant as it is: whoever says so applies what is in force with a reason.
    shop.controller.done(&["apply", &shop.file(), "--accept", "BAL016,BAL019", "--reason", "b0 is the new machine"])?;
    shop.over("an acceptance")?;
    shop.controller.end(Signal::SIGKILL)?;
    shop.controller.run()?;
    let status = shop.controller.status()?;
    let accepted = finding(&status, "BAL016").and_then(|found| found.accepted.clone()).context("it is accepted")?;
    ensure!((accepted.by.as_str(), accepted.reason.as_str()) == ("uid 0", "b0 is the new machine"), "{accepted:?}");
    ensure!(!pages(&status) && shop.controller.done(&["status"])?.contains("accepted by uid 0"));
    let metric = "balancer_config_finding_accepted{id=\"BAL016\",severity=\"warning\",service=\"web\"} 1";
    shop.measured(metric)?;
    // What gets worse was not accepted.
    shop.controller.done(&["weight", "web/b0", "2000"])?;
    shop.paged("a worse weight")
}

#[test]
fn a_file_that_is_watched_wakes_somebody_and_a_silence_lets_them_sleep() -> Result<()> {
    let web = Web::new(3)?;
    let watched = |weights: &[u32]| web.service(weights).node("watch_config = true").text();
    let shop = Shop { web: &web, controller: Controller::start(&web.lab.balancer, &watched(&EVEN))? };
    shop.controller.configure(&watched(&UNEVEN))?;
    shop.paged("a file that is watched")?;
    let silenced = |id: &str| format!("[[silence]]\nid = \"{id}\"\nservice = \"web\"\nreason = \"the new machine\"\n");
    let text = watched(&UNEVEN) + &silenced("BAL016") + &silenced("BAL019");
    shop.controller.configure(&text)?;
    shop.over("a silence")?;
    let status = shop.controller.status()?;
    let accepted = finding(&status, "BAL016").and_then(|found| found.accepted.clone()).context("it is silenced")?;
    ensure!(accepted.by == "file" && accepted.reason == "the new machine", "{accepted:?}");
    Ok(())
}

#[test]
fn commands_are_refused_what_apply_would_refuse() -> Result<()> {
    let web = Web::new(3)?;
    let peak = "[service.peak]\nnew_flows_per_second = 1000\n[[service.backend]]";
    let sized = web.config(&EVEN).replacen("[[service.backend]]", peak, 1);
    let sized = sized.replace("weight = ", "capacity = { new_flows_per_second = 550 }\nweight = ");
    let controller = Controller::start(&web.lab.balancer, &sized)?;
    controller.wait_all_up()?;
    // Enough for now, and too much after one loss.
    controller.refused(&["drain", "web/b1"], &["[BAL013]", "182 %", "--accept BAL013 --reason"])?;
    controller.refused(&["weight", "web/b1", "0"], &["[BAL013]"])?;
    ensure!(controller.status()?.services[0].backends[1].weight == 100, "it was applied");
    controller.done(&["drain", "web/b1", "--accept", "BAL013", "--reason", "a new disk"])?;
    controller.done(&["undrain", "web/b1"])?;

    controller.configure(&web.config(&EVEN))?;
    controller.done(&["reload"])?;
    controller.done(&["drain", "web/b0"])?;
    controller.done(&["weight", "web/b1", "0"])?;
    let nobody = ["[BAL021]", "would get new flows", "--accept BAL021 --reason"];
    controller.refused(&["drain", "web/b2"], &nobody)?;
    controller.refused(&["weight", "web/b2", "0"], &nobody)?;
    // Nor where health leaves nobody else.
    controller.done(&["weight", "web/b1", "--reset"])?;
    web.set_failing(1, true)?;
    controller.wait_for("b1 is down", SOON, |status| status.services[0].backends[1].effective_weight == 0)?;
    controller.refused(&["drain", "web/b2"], &nobody)?;
    controller.done(&["drain", "web/b2", "--accept", "BAL021", "--reason", "the rack burns"])?;

    // Where the config asks for it, by warnings too.
    for backend in ["web/b0", "web/b2"] {
        controller.done(&["undrain", backend])?;
    }
    let strict = web.service(&EVEN).node("[lint]\nstrict_commands = true").text();
    controller.configure(&strict)?;
    controller.done(&["reload"])?;
    controller.refused(&["weight", "web/b0", "900"], &["[BAL016]", "[BAL019]", "--accept BAL016 --accept BAL019"])?;
    controller.done(&["weight", "web/b0", "105"]).map(drop)
}

#[test]
fn a_refused_file_is_one_alarm_and_names_the_worst_first() -> Result<()> {
    let web = Web::new(2)?;
    let config = |weights: &[u32]| web.service(weights).node("[verify]\ninterval = \"1s\"").text();
    let controller = Controller::start(&web.lab.balancer, &config(&[100, 100]))?;
    controller.wait_all_up()?;
    // A warning, and below it an error.
    let all_zero = "[[service]]\nname = \"nobody\"\nprotocol = \"tcp\"\naddress = \"192.0.2.77\"\nport = 80\nforward = \"l2\"\n\
                    [[service.backend]]\nname = \"b0\"\naddress = \"10.9.9.9\"\nweight = 0\n";
    controller.configure(&(config(&[900, 100]) + all_zero))?;
    controller.refused(&["reload"], &["[BAL021]"])?;
    let refused = |status: &Status| status.alarms.iter().any(|alarm| alarm.alarm == "BalancerConfigRefused");
    controller.wait_for("the alarm", SOON, refused)?;
    // The comparison that finds that the file differs comes once a second.
    let mut comparisons = 0;
    let deadline = Instant::now() + SOON;
    while comparisons < 2 && Instant::now() < deadline {
        let verify = controller.cli(&["verify", "--json"])?;
        comparisons += u32::from(String::from_utf8_lossy(&verify.stdout).contains("BalancerConfigFileDiffers"));
        let status = controller.status()?;
        let names: Vec<&str> = status.alarms.iter().map(|alarm| alarm.alarm.as_str()).collect();
        ensure!(names == ["BalancerConfigRefused"], "{names:?}");
        ensure!(status.alarms[0].summary.contains("[BAL021]"), "{}", status.alarms[0].summary);
    }
    ensure!(comparisons == 2, "the file does not differ");
    fs::write(controller.config(), "")?;
    controller.configure(&config(&[100, 100]))?;
    controller.done(&["reload"])?;
    controller.wait_for("nothing", SOON, |status| status.alarms.is_empty()).map(drop)
}
