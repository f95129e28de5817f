//! The two outages that this product exists for, brought in behind the balancer's back: the right alarm names each within two
//! intervals, and the runbook's commands for that alarm end it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::alarm::Alarm;
use balancer::control::api::Status;
use balancer_common::slot::Slot;
use harness::controller::Controller;
use harness::server::{Server, binary};
use harness::tamper::Pinned;
use harness::web::Web;

/// Of comparisons; the default is ten seconds, and everything would take as much longer.
const INTERVAL: Duration = Duration::from_secs(4);
const BACKENDS: usize = 4;
/// New connections a second of all clients, and what a server declares to take.
const RATE: u32 = 120;
const CAPACITY: u32 = 60;

struct Shop<'a> {
    controller: Controller<'a>,
    load: Child,
}

impl<'a> Shop<'a> {
    /// A service under load, and nothing wrong.
    fn open(web: &'a Web, node: &str) -> Result<Self> {
        let service =
            web.service(&[100; BACKENDS]).each(&format!("capacity = {{ new_flows_per_second = {CAPACITY} }}"));
        let node = format!("[verify]\ninterval = \"{}s\"\n{node}", INTERVAL.as_secs());
        let controller = Controller::start(&web.lab.balancer, &service.node(&node).text())?;
        controller.wait_all_up()?;
        let mut load = web.lab.client.command(&binary("balancer")?.display().to_string());
        load.arg("--socket").arg(controller.socket()).args(["loadtest", "web", "--yes", "--http", "/"]);
        load.args(["--rate", &RATE.to_string(), "--duration", "2m"]).stdout(Stdio::null()).stderr(Stdio::null());
        let load = load.spawn().context("starting the load")?;
        let shop = Self { controller, load };
        std::thread::sleep(Duration::from_secs(8));
        let alarms = shop.controller.status()?.alarms;
        ensure!(alarms.is_empty(), "before anything was wrong: {alarms:#?}");
        Ok(shop)
    }

    /// The alarm of this name, which must come within two intervals.
    fn alarm(&self, name: &str) -> Result<Alarm> {
        let start = Instant::now();
        let of_name = |status: &Status| status.alarms.iter().find(|alarm| alarm.alarm == name).cloned();
        let status = self.controller.wait_for(name, INTERVAL * 2, |status| of_name(status).is_some())?;
        let alarm = of_name(&status).context("it was there")?;
        println!("{name} after {:?}: {}", start.elapsed(), alarm.summary);
        Ok(alarm)
    }

    /// Whoever is on call reads what to do.
    fn runbook(&self, alarm: &Alarm, says: &[&str]) -> Result<()> {
        let entry = self.controller.done(&["runbook", &alarm.alarm])?;
        for part in says {
            ensure!(entry.contains(part), "the runbook's entry on {} does not say {part:?}:\n{entry}", alarm.alarm);
        }
        Ok(())
    }

    fn over(&self) -> Result<()> {
        self.controller.wait_for("the end of it", INTERVAL * 3, |status| status.alarms.is_empty()).map(drop)
    }
}

impl Drop for Shop<'_> {
    fn drop(&mut self) {
        let _ = self.load.kill();
        let _ = self.load.wait();
    }
}

/// Some servers drowned for twelve hours: they had more of the table than anybody had planned.
#[test]
fn servers_that_get_more_than_planned_are_named_and_the_plan_is_brought_back() -> Result<()> {
    let web = Web::new(BACKENDS)?;
    let shop = Shop::open(&web, "self_heal = false")?;
    let pinned = Pinned::of(shop.controller.pin_dir());
    // Of every other backend's slots, three in four go to the first.
    pinned.set_slots(0, (0..65_537).filter(|slot| slot % 4 != 0).map(|slot| (slot, Slot::closed(1))))?;
    let found = shop.alarm("BalancerTableDiffers")?;
    ensure!(found.severity == balancer::alarm::Severity::Critical);
    ensure!(found.summary.contains("found b0"), "{}", found.summary);
    // And the server that drowns is named too.
    let drowns = shop.alarm("BalancerBackendOverloaded")?;
    ensure!(drowns.subject.backend.as_ref().is_some_and(|name| name.as_str() == "b0"), "{drowns:#?}");
    shop.runbook(&found, &["self_heal = true", "balancer reload"])?;
    let text = fs::read_to_string(shop.controller.config())?;
    fs::write(shop.controller.config(), text.replace("self_heal = false", "self_heal = true"))?;
    shop.controller.done(&["reload"])?;
    shop.over()?;
    let verify = shop.controller.cli(&["verify"])?;
    ensure!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
    Ok(())
}

/// A setting overloaded the databases: what was left of the servers could not take the load. So those that fail together
/// are kept, and the one that is left is spared; where a weight gives it too much, that is named and taken back.
#[test]
fn a_server_that_gets_more_than_it_can_take_is_named_and_relieved() -> Result<()> {
    let web = Web::new(BACKENDS)?;
    let shop = Shop::open(&web, "")?;
    // Three of four hang: the capacity is gone, and all of the load is left for one.
    let pids: Vec<u32> = web.servers[1..].iter().map(Server::pid).collect();
    let signal = |signal: &str| -> Result<()> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        ensure!(Command::new("kill").arg(signal).args(&pids).status()?.success(), "kill {signal}");
        Ok(())
    };
    signal("-STOP")?;
    let down = shop.alarm("BalancerBackendDown");
    let refused = shop.alarm("BalancerRemovalRefused");
    let status = shop.controller.status();
    signal("-CONT")?;
    let (down, refused, status) = (down?, refused?, status?);
    ensure!(refused.summary.starts_with("3 of 4 backends"), "{refused:#?}");
    let kept = status.services[0].backends.iter().all(|backend| backend.effective_weight == 100);
    ensure!(kept && status.alarms.iter().all(|alarm| alarm.alarm != "BalancerBackendOverloaded"), "{status:#?}");
    shop.runbook(&down, &["balancer doctor"])?;
    shop.runbook(&refused, &["balancer status", "balancer rollback"])?;
    shop.over()?;

    shop.controller.done(&["weight", "web/b0", "900"])?;
    let overloaded = shop.alarm("BalancerBackendOverloaded")?;
    ensure!(overloaded.subject.backend.as_ref().is_some_and(|name| name.as_str() == "b0"), "{overloaded:#?}");
    shop.runbook(&overloaded, &["balancer status", "balancer rollback"])?;
    shop.controller.done(&["rollback"])?;
    shop.over()
}

/// The file was edited and never applied: the next restart would have brought in what nobody had looked at.
#[test]
fn a_file_that_nobody_applied_is_named_looked_at_and_applied() -> Result<()> {
    let web = Web::new(BACKENDS)?;
    let shop = Shop::open(&web, "")?;
    let file = shop.controller.config();
    let before = fs::read_to_string(&file)?;
    fs::write(&file, before.replacen("weight = 100", "weight = 130", 1))?;
    let found = shop.alarm("BalancerConfigFileDiffers")?;
    ensure!(found.summary.contains("weight = 130"), "{}", found.summary);
    shop.runbook(&found, &["balancer plan", "balancer apply"])?;
    let path = file.display().to_string();
    let plan = shop.controller.done(&["plan", &path])?;
    ensure!(plan.contains("130"), "{plan}");
    shop.controller.done(&["apply", &path, "--accept", "BAL016,BAL017", "--reason", "what was meant"])?;
    shop.over()
}
