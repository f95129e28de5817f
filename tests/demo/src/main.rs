//! `cargo xtask demo`: the real `balancer` on a virtual network, real servers behind two services, thousands of real
//! connections; what was configured beside what clients got, before and after a weight changes and a backend dies.

mod network;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use balancer::control::api::BackendState;
use clap::Parser;
use harness::client::{Counts, requests};
use harness::controller::Controller;

use crate::network::{BACKENDS, Network, SERVICES};
use crate::report::{Report, Step};
use harness::supervise;

/// Connections to each service in each step.
const CONNECTIONS: usize = 3000;
const AT_ONCE: usize = 64;

/// The backend whose weight is changed, the weight it gets, and the backend that dies.
const CHANGED: (&str, u32) = ("server-1", 600);
const VICTIM: usize = 3;

/// The real balancer on a virtual network, with real clients and servers
#[derive(Parser)]
#[command(name = "demo", bin_name = "cargo xtask demo")]
struct Cli {
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    hold: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    supervise::run(|| run(&cli))
}

fn run(cli: &Cli) -> Result<()> {
    let tell = |text: String| {
        if !cli.json {
            println!("{text}");
        }
    };
    let network = Network::new()?;
    let mut servers = network.serve()?;
    let balancer = network.balance()?;
    let mut report = Report::default();
    tell(network::PICTURE.to_owned());

    let mut step = |name: &'static str| -> Result<()> {
        for service in &SERVICES {
            let counts = requests(&network.lab.client, service.address(), CONNECTIONS, AT_ONCE)?;
            let status = balancer.status()?;
            let taken = Step::new(name, service, &counts, &status)?;
            tell(taken.table());
            report.steps.push(taken);
        }
        Ok(())
    };

    tell(format!("1. {CONNECTIONS} connections to each service\n"));
    step("start")?;

    let (backend, weight) = CHANGED;
    tell(format!("2. {backend} gets weight {weight}\n"));
    for service in &SERVICES {
        let target = format!("{}/{backend}", service.name);
        let said = balancer.done(&["weight", &target, &weight.to_string()])?;
        tell(format!("   $ balancer weight {target} {weight}\n{}", indented(&said)));
    }
    step("weight")?;

    tell(format!("3. {} is killed\n", BACKENDS[VICTIM].name));
    servers[VICTIM].kill();
    let death = Instant::now();
    let meanwhile = until_noticed(&network, &balancer)?;
    tell(format!(
        "   health checks took it out of both services within {:.1} s; until then {} of {} connections failed\n",
        death.elapsed().as_secs_f64(),
        meanwhile.failed,
        meanwhile.failed + meanwhile.total(),
    ));
    step("failure")?;

    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", network.metrics()?);
    }
    if cli.hold {
        eprintln!("Everything runs until Ctrl-C.");
        loop {
            std::thread::park();
        }
    }
    tell("Everything that was made is taken away again.".to_owned());
    report.verdict(BACKENDS[VICTIM].name)
}

/// Clients go on connecting until the balancer has taken the dead backend out of every service.
fn until_noticed(network: &Network, balancer: &Controller<'_>) -> Result<Counts> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut all = Counts::default();
    loop {
        let status = balancer.status()?;
        let victim =
            status.services.iter().flat_map(|s| &s.backends).filter(|b| b.name.as_str() == BACKENDS[VICTIM].name);
        if victim.clone().all(|b| b.state == BackendState::Down && b.share.kernel == Some(0.0)) {
            return Ok(all);
        }
        ensure!(Instant::now() < deadline, "the balancer does not notice that {} died", BACKENDS[VICTIM].name);
        all.add(&requests(&network.lab.client, SERVICES[0].address(), 50, AT_ONCE)?);
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("     {line}\n")).collect()
}
