//! While a large config is brought into force, the controller takes in what backends answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::client::{AskError, Client};
use balancer::controller::requests::GetDrill;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology};

const SERVICES: usize = 100;

fn config(weight: usize) -> String {
    let mut text = String::from("{node}\n[[interface]]\nname = \"eth0\"\n");
    for service in 0..SERVICES {
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.{}\"\nport = 80\nforward = \"ipip\"\n\
             [service.health]\nkind = \"none\"\n",
            1 + service
        );
        for backend in 0..8 {
            let weight = if backend == 0 { weight } else { 100 };
            text += &format!(
                "[[service.backend]]\nname = \"b{backend}\"\naddress = \"10.128.{service}.{}\"\nweight = {weight}\n",
                1 + backend
            );
        }
    }
    text
}

/// The longest that the controller's task kept somebody waiting until `done`: as long waits a check's result.
fn longest_wait(controller: &Controller<'_>, done: &AtomicBool) -> Result<Duration> {
    let client = Client::new(&controller.socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        match runtime.block_on(client.ask(&GetDrill::default())) {
            // There was no drill: that is an answer too.
            Ok(_) | Err(AskError::Refused(_)) => {}
            Err(error) => return Err(error).context("asking the controller"),
        }
        longest = longest.max(start.elapsed());
    }
    Ok(longest)
}

#[test]
fn a_reload_of_a_hundred_services_keeps_nobody_waiting() -> Result<()> {
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2])?;
    lab.balancer.ip(&format!("route add 10.128.0.0/9 via {}", Lab::backend4(0)))?;
    let controller = Controller::start(&lab.balancer, &config(100))?;
    let planned =
        |weight: f64| move |share: Option<f64>| share.is_some_and(|s| (s - weight / (weight + 700.0)).abs() < 1e-4);
    controller.wait_for("all services", Duration::from_secs(60), |status| {
        status.services.iter().all(|service| planned(100.0)(service.backends[0].share.kernel))
    })?;
    let mut parts = Vec::new();
    // What else runs on the machine keeps everybody waiting now and then, but not each time.
    for round in 0..5 {
        let weight = 200 + 10 * round;
        controller.configure(&config(weight))?;
        let done = AtomicBool::new(false);
        let (took, waited) = std::thread::scope(|scope| -> Result<_> {
            let asking = scope.spawn(|| longest_wait(&controller, &done));
            let start = Instant::now();
            let reloaded = controller.done(&["reload"]);
            let took = start.elapsed();
            done.store(true, Ordering::Relaxed);
            reloaded?;
            Ok((took, asking.join().expect("asking")?))
        })?;
        let status = controller.status()?;
        ensure!(status.services.iter().all(|service| planned(weight as f64)(service.backends[0].share.kernel)));
        println!("a reload of {SERVICES} services: {took:?}, the longest wait {waited:?}");
        parts.push(waited.as_secs_f64() / took.as_secs_f64());
        if parts.iter().any(|part| *part < 1.0 / 3.0) {
            return Ok(());
        }
    }
    ensure!(false, "the controller's task was busy for so much of a reload: {parts:?}");
    Ok(())
}
