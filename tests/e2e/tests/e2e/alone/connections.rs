//! No established connection moves: ten thousand of them stay open and talk while weights change, backends come, go and
//! drain, the controller is killed, and a SYN flood fills the flow table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::flood::{Flood, mac};
use harness::lab::{BackendKind, VIP4};
use nix::sys::signal::Signal;

use crate::together::connections::{FLOW_TABLE, Net, PORT, all_present};

const CONNECTIONS: usize = 10_000;
const SYN_PER_SECOND: u64 = 100_000;
/// Changes, one every four seconds: each kind once and what undoes it, or as many as `CONNECTIONS_CHANGES` says.
const CHANGES: usize = 8;
const PACE: Duration = Duration::from_secs(4);

fn changes() -> usize {
    std::env::var("CONNECTIONS_CHANGES").ok().and_then(|number| number.parse().ok()).unwrap_or(CHANGES)
}

/// One change of what is configured, in turn; answers what was done.
fn change(controller: &mut Controller<'_>, net: &Net, number: usize) -> Result<String> {
    let weight = (number * 37 % 5 + 1) * 60;
    let (first, second) = (number / 6 % 4, (number / 6 + 1) % 4);
    match number % 6 {
        0 => controller.done(&["weight", &format!("echo/b{first}"), &weight.to_string()]),
        1 => {
            controller.configure(&net.config(&[0, 1, 2, 3, 4, 5], ""))?;
            controller.done(&["reload"])
        }
        2 => controller.done(&["drain", &format!("echo/b{second}")]),
        3 => controller.done(&["weight", &format!("echo/b{first}"), "--reset"]),
        4 => {
            controller.configure(&net.config(&[0, 1, 2, 3, 4], ""))?;
            controller.done(&["reload"])
        }
        _ => controller.done(&["undrain", &format!("echo/b{second}")]),
    }?;
    if number == changes() / 3 || number == 2 * changes() / 3 {
        controller.end(Signal::SIGKILL)?;
        controller.run()?;
        return Ok(format!("{number}, and the controller killed and started"));
    }
    Ok(number.to_string())
}

#[test]
fn ten_thousand_connections_outlive_every_change() -> Result<()> {
    let net = Net::new(BackendKind::Sieved)?;
    let mut controller = Controller::start(&net.lab.balancer, &net.config(&[0, 1, 2, 3, 4], ""))?;
    controller.wait_for("all backends up", Duration::from_secs(10), |status| all_present(status, 5))?;
    let progress = Arc::new(Progress::default());
    let (stop_flood, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let flood = Flood {
        namespace: &net.lab.client,
        source_mac: mac(&net.lab.client)?,
        mac: mac(&net.lab.balancer)?,
        vip: VIP4,
        port: PORT + 1,
        per_second: SYN_PER_SECOND,
    };
    let outcome = std::thread::scope(|scope| -> Result<Duration> {
        let (client, shared) = (&net.lab.client, &progress);
        let (pause, patience) = (Duration::from_secs(3), Duration::from_secs(8));
        let holding = scope.spawn(move || hold(client, (VIP4, PORT + 1).into(), CONNECTIONS, pause, patience, shared));
        let done = (|| -> Result<Duration> {
            let deadline = Instant::now() + Duration::from_secs(60);
            while progress.open.load(Ordering::Relaxed) < CONNECTIONS as u64 {
                ensure!(Instant::now() < deadline && progress.broken() == 0, "{progress:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
            let (stop, sent) = (&stop_flood, &sent);
            scope.spawn(move || flood.run(stop, Duration::from_secs(400), sent));
            let start = Instant::now();
            for number in 0..changes() {
                let what = change(&mut controller, &net, number)?;
                let next = start + PACE * (number as u32 + 1);
                while Instant::now() < next {
                    ensure!(progress.broken() == 0, "after change {what}: {progress:?}\n{}", controller.log());
                    std::thread::sleep(Duration::from_millis(100));
                }
                let status = controller.status()?;
                let service = &status.services[0];
                ensure!(service.flow_table_entries <= u64::from(FLOW_TABLE), "{service:#?}");
            }
            Ok(start.elapsed())
        })();
        stop_flood.store(true, Ordering::Relaxed);
        progress.stop.store(true, Ordering::Relaxed);
        holding.join().expect("the connections")?;
        done
    })?;
    let flooded = sent.load(Ordering::Relaxed);
    println!("{progress:?}, {flooded} SYNs in {outcome:?}");
    ensure!(progress.broken() == 0 && progress.refused.load(Ordering::Relaxed) == 0, "{progress:?}");
    ensure!(progress.exchanges.load(Ordering::Relaxed) > (CONNECTIONS * changes() / 2) as u64, "{progress:?}");
    let rate = flooded as f64 / outcome.as_secs_f64();
    ensure!(rate > SYN_PER_SECOND as f64 * 0.8, "the flood was of {rate:.0} SYN/s only");
    let status = controller.status()?;
    let service = &status.services[0];
    let reached: u64 = service.backends.iter().map(|backend| backend.new_flows).sum();
    println!("{reached} new flows counted, {:?}", service.events);
    // All that was opened closes again, and what left has gone.
    controller.wait_for("all slots closed", Duration::from_secs(40), |status| {
        let service = &status.services[0];
        service.open_slots == 0 && service.flow_table_entries == 0 && service.leaving.is_empty()
    })?;
    Ok(())
}
