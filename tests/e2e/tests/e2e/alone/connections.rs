//! No established connection moves: ten thousand of them stay open and talk while weights change, backends come, go and
//! drain, the controller is killed, and a SYN flood fills the flow table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Status;
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::flood::{Flood, mac};
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::server::Server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

const PORT: u16 = 8000;
const CONNECTIONS: usize = 10_000;
const BACKENDS: usize = 6;
const FLOW_TABLE: u32 = 20_000;
const SYN_PER_SECOND: u64 = 100_000;
/// Changes, one every five seconds: a minute and a half of them, or as many as `CONNECTIONS_CHANGES` says.
const CHANGES: usize = 18;
const PACE: Duration = Duration::from_secs(5);

struct Net {
    lab: Lab,
    _servers: Vec<Server>,
}

impl Net {
    fn new(kind: BackendKind) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let lab = Lab::new(Topology::OneArmed, &[kind; BACKENDS])?;
        let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self { lab, _servers: servers })
    }

    /// An echo service over these backends.
    fn config(&self, backends: &[usize], extra: &str) -> String {
        let port = PORT + 1;
        let mut text = format!(
            "{{node}}\nwatch_config = false\n{extra}\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"echo\"\n\
             protocol = \"tcp\"\naddress = \"{VIP4}\"\nport = {port}\nforward = \"l2\"\n\
             [service.connections]\nquiet = \"15s\"\nflow_table = {FLOW_TABLE}\n\
             [service.health]\nkind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nrise = 1\nfall = 10\n"
        );
        for i in backends {
            let address = Lab::backend4(*i);
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = 100\n");
        }
        text
    }
}

fn changes() -> usize {
    std::env::var("CONNECTIONS_CHANGES").ok().and_then(|number| number.parse().ok()).unwrap_or(CHANGES)
}

fn all_present(status: &Status, count: usize) -> bool {
    let backends = &status.services[0].backends;
    backends.len() == count && backends.iter().all(|b| b.share.kernel.is_some_and(|share| share > 0.0))
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
        let (pause, patience) = (Duration::from_secs(4), Duration::from_secs(8));
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

const QUIET: &str = "quiet = \"15s\"";
const L2: &str = "forward = \"l2\"\n";

/// How many of a few hundred connections a change breaks; in the config one text stands in the place of another.
fn broken_by(
    change: impl FnOnce(&mut Controller<'_>, &Net) -> Result<()>,
    (usual, special): (&str, &str),
) -> Result<u64> {
    let net = Net::new(BackendKind::L2)?;
    let all = [0, 1, 2, 3, 4, 5];
    let config = |text: String| text.replace(usual, special);
    let mut controller = Controller::start(&net.lab.balancer, &config(net.config(&all, "")))?;
    controller.wait_for("all backends up", Duration::from_secs(10), |status| all_present(status, 6))?;
    let progress = Arc::new(Progress::default());
    std::thread::scope(|scope| -> Result<u64> {
        let (client, shared) = (&net.lab.client, &progress);
        let (pause, patience) = (Duration::from_millis(600), Duration::from_secs(5));
        let holding = scope.spawn(move || hold(client, (VIP4, PORT + 1).into(), 500, pause, patience, shared));
        let done = (|| -> Result<()> {
            let deadline = Instant::now() + Duration::from_secs(20);
            while progress.exchanges.load(Ordering::Relaxed) < 1000 {
                ensure!(Instant::now() < deadline, "{progress:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
            change(&mut controller, &net)?;
            // Each connection speaks several times more.
            let before = progress.exchanges.load(Ordering::Relaxed);
            while progress.exchanges.load(Ordering::Relaxed) < before + 6000 && progress.broken() < 100 {
                ensure!(Instant::now() < deadline + Duration::from_secs(40), "{progress:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })();
        progress.stop.store(true, Ordering::Relaxed);
        holding.join().expect("the connections")?;
        done.map(|()| progress.broken())
    })
    .context("while the service changed")
}

#[test]
fn another_seed_breaks_no_connection() -> Result<()> {
    let broken = broken_by(
        |controller, net| {
            let seeded = net.config(&[0, 1, 2, 3, 4, 5], "seed = 4711").replace("quiet = \"15s\"", "quiet = \"3s\"");
            controller.configure(&seeded)?;
            controller.done(&["reload"])?;
            let status = controller.status()?;
            ensure!(status.services[0].former_mapping, "{status:#?}");
            // Nor does the next one have to wait: whatever began since the first is in the flow table.
            controller.configure(&seeded.replace("4711", "4712"))?;
            controller.done(&["reload"])?;
            Ok(())
        },
        (QUIET, "quiet = \"3s\""),
    )?;
    ensure!(broken == 0, "{broken} connections broke");
    Ok(())
}

#[test]
fn another_table_size_and_affinity_break_no_connection() -> Result<()> {
    let broken = broken_by(
        |controller, net| {
            let text = net.config(&[0, 1, 2, 3, 4, 5], "");
            let text = text.replace(L2, "forward = \"l2\"\ntable_size = 4099\naffinity = \"client\"\n");
            controller.configure(&text)?;
            controller.done(&["reload"]).map(drop)
        },
        (QUIET, QUIET),
    )?;
    ensure!(broken == 0, "{broken} connections broke");
    Ok(())
}

/// All of one client's connections are in one slot: a drained backend keeps those it has, nobody else's break.
#[test]
fn a_drain_under_client_affinity_breaks_no_connection() -> Result<()> {
    let broken = broken_by(
        |controller, _| {
            let status = controller.status()?;
            let busiest = status.services[0].backends.iter().max_by_key(|backend| backend.new_flows);
            let busiest = busiest.context("no backends")?.name.clone();
            controller.done(&["drain", &format!("echo/{busiest}")]).map(drop)
        },
        (L2, "forward = \"l2\"\naffinity = \"client\"\n"),
    )?;
    ensure!(broken == 0, "{broken} connections broke");
    Ok(())
}

/// The other tests could not fail if this did not: past its drain deadline a backend's connections do break.
#[test]
fn a_drain_ends_at_its_deadline() -> Result<()> {
    let broken = broken_by(
        |controller, _| controller.done(&["drain", "echo/b0"]).map(drop),
        (QUIET, "quiet = \"1s\"\ndrain_deadline = \"2s\""),
    )?;
    ensure!(broken > 20, "{broken} connections broke");
    Ok(())
}
