//! No established connection moves, whatever of a service changes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Status;
use harness::connections::{Progress, hold};
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::server::Server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) const PORT: u16 = 8000;
const BACKENDS: usize = 6;
pub(crate) const FLOW_TABLE: u32 = 20_000;

pub(crate) struct Net {
    pub(crate) lab: Lab,
    _servers: Vec<Server>,
}

impl Net {
    pub(crate) fn new(kind: BackendKind) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let lab = Lab::new(Topology::OneArmed, &[kind; BACKENDS])?;
        let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT);
        let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        Ok(Self { lab, _servers: servers })
    }

    /// An echo service over these backends.
    pub(crate) fn config(&self, backends: &[usize], extra: &str) -> String {
        let port = PORT + 1;
        let mut text = format!(
            "{{node}}\nwatch_config = false\n{extra}\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"echo\"\n\
             protocol = \"tcp\"\naddress = \"{VIP4}\"\nport = {port}\nforward = \"l2\"\n\
             [service.connections]\nquiet = \"8s\"\nflow_table = {FLOW_TABLE}\n\
             [service.health]\nkind = \"tcp\"\ninterval = \"1s\"\ntimeout = \"900ms\"\nrise = 1\nfall = 10\n"
        );
        for i in backends {
            let address = Lab::backend4(*i);
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = 100\n");
        }
        text
    }
}

pub(crate) fn all_present(status: &Status, count: usize) -> bool {
    let backends = &status.services[0].backends;
    backends.len() == count && backends.iter().all(|b| b.share.kernel.is_some_and(|share| share > 0.0))
}

const QUIET: &str = "quiet = \"8s\"";
const L2: &str = "forward = \"l2\"\n";

/// How many of a few hundred connections a change breaks; in the config one text stands in the place of another.
fn broken_by(
    change: impl FnOnce(&mut Controller<'_>, &Net) -> Result<()>,
    (usual, special): (&str, &str),
    awaited: u64,
) -> Result<u64> {
    let net = Net::new(BackendKind::L2)?;
    let all = [0, 1, 2, 3, 4, 5];
    let config = |text: String| text.replace(usual, special);
    let mut controller = Controller::start(&net.lab.balancer, &config(net.config(&all, "")))?;
    controller.wait_for("all backends up", Duration::from_secs(10), |status| all_present(status, 6))?;
    let progress = Arc::new(Progress::default());
    std::thread::scope(|scope| -> Result<u64> {
        let (client, shared) = (&net.lab.client, &progress);
        let (pause, patience) = (Duration::from_millis(600), Duration::from_secs(8));
        let holding = scope.spawn(move || hold(client, (VIP4, PORT + 1).into(), 500, pause, patience, shared));
        let done = (|| -> Result<()> {
            let deadline = Instant::now() + Duration::from_secs(20);
            while progress.exchanges.load(Ordering::Relaxed) < 1000 {
                ensure!(Instant::now() < deadline, "{progress:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
            change(&mut controller, &net)?;
            // Each connection speaks some six times more; where some have to break, as often as that takes.
            let enough = progress.exchanges.load(Ordering::Relaxed) + 3000;
            let goes_on = || progress.exchanges.load(Ordering::Relaxed) < enough || progress.broken() < awaited;
            while progress.broken() < 100 && goes_on() {
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
            let seeded = net.config(&[0, 1, 2, 3, 4, 5], "seed = 4711").replace("quiet = \"8s\"", "quiet = \"3s\"");
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
        0,
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
        0,
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
        0,
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
        21,
    )?;
    ensure!(broken > 20, "{broken} connections broke");
    Ok(())
}
