//! The data plane outlives its controller, and a new one takes it over as it is.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

#[test]
fn forwarding_survives_kill_and_restart_with_counters_and_shares() -> Result<()> {
    let web = Web::new(3)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[1, 2, 3]))?;
    controller.wait_all_up()?;
    ensure!(web.requests(300)?.failed == 0);
    let before = controller.status()?;
    let explained = controller.done(&["explain", "tcp", "10.77.0.1:40000", "192.0.2.10:8000", "--json"])?;

    controller.end(Signal::SIGKILL)?;
    let counts = web.requests(200)?;
    ensure!(counts.failed == 0, "without a controller: {counts:?}");
    let answered = controller.cli(&["status"])?;
    ensure!(answered.status.code() == Some(3), "{answered:?}");

    controller.run()?;
    let after = controller.status()?;
    for (old, new) in before.services[0].backends.iter().zip(&after.services[0].backends) {
        ensure!(old.share.kernel == new.share.kernel, "{old:?} {new:?}");
        ensure!(old.state == new.state, "{old:?} {new:?}");
        ensure!(new.packets > old.packets && new.new_flows > old.new_flows, "{old:?} {new:?}");
    }
    let flows = |status: &balancer::control::api::Status| -> u64 {
        status.services[0].backends.iter().map(|backend| backend.new_flows).sum()
    };
    ensure!(flows(&after) - flows(&before) == 200, "{} flows", flows(&after) - flows(&before));
    ensure!(controller.log().contains("took over 1 services"), "{}", controller.log());
    let again = controller.done(&["explain", "tcp", "10.77.0.1:40000", "192.0.2.10:8000", "--json"])?;
    let backend = |text: &str| serde_json::from_str::<serde_json::Value>(text).map(|v| v["route"]["backend"].clone());
    ensure!(backend(&explained)? == backend(&again)?, "{explained} {again}");
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

#[test]
fn no_request_fails_while_controllers_come_and_go() -> Result<()> {
    let web = Web::new(2)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    controller.wait_all_up()?;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| web.requests(8000));
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
            controller.end(signal)?;
            controller.run()?;
        }
        let counts = load.join().expect("the load")?;
        ensure!(counts.failed == 0, "{counts:?}");
        Ok(())
    })
}

#[test]
fn a_second_controller_is_refused() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    let program = harness::server::binary("balancer")?;
    let mut second = web.lab.balancer.command(&program.display().to_string());
    let output = second.arg("run").arg("--config").arg(controller.config()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("another controller uses"), "{said}");
    ensure!(controller.status().is_ok(), "the first one goes on");
    Ok(())
}

#[test]
fn detach_leaves_nothing_behind() -> Result<()> {
    let web = Web::new(1)?;
    for running in [true, false] {
        let mut controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
        controller.wait_all_up()?;
        ensure!(program_on(&web)?);
        let pin_dir = controller.pin_dir().to_owned();
        if running {
            controller.done(&["detach"])?;
            controller.ended()?;
        } else {
            controller.end(Signal::SIGKILL)?;
            ensure!(program_on(&web)?, "a killed controller leaves the program");
            controller.done(&["detach", "--pin-dir", &pin_dir.display().to_string()])?;
        }
        ensure!(!pin_dir.exists(), "{} is still there", pin_dir.display());
        ensure!(!program_on(&web)?, "the program is still attached");
        ensure!(!running || !managed_neighbours(&web)?, "managed neighbour entries are left");
        ensure!(!running || !Path::new(&controller.socket()).exists(), "the socket is still there");
    }
    Ok(())
}

#[test]
fn detach_says_what_stays_attached_and_where_that_is_pinned() -> Result<()> {
    let web = Web::new(1)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    controller.end(Signal::SIGKILL)?;
    let program = harness::server::binary("balancer")?.display().to_string();
    let detach = |pin_dir: &str| -> Result<_> {
        let mut command = web.lab.balancer.command(&program);
        command.args(["--socket", "/nowhere", "detach", "--pin-dir", pin_dir]);
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
    };
    let pin_dir = controller.pin_dir().display().to_string();
    let (code, said) = detach("/sys/fs/bpf/nowhere")?;
    ensure!(code == Some(1) && program_on(&web)?, "{code:?} {said}");
    for part in
        ["nothing was removed", "/sys/fs/bpf/nowhere", "attached to eth0", &format!("detach --pin-dir {pin_dir}`")]
    {
        ensure!(said.contains(part), "no {part:?} in {said}");
    }
    let (code, said) = detach(&pin_dir)?;
    ensure!(code == Some(0) && !program_on(&web)?, "{code:?} {said}");
    let (code, said) = detach(&pin_dir)?;
    ensure!(code == Some(0) && said.contains("nothing was there"), "{code:?} {said}");
    Ok(())
}

/// Whether the kernel still keeps neighbours for a balancer.
fn managed_neighbours(web: &Web) -> Result<bool> {
    let output = Command::new("ip").args(["-n", web.lab.balancer.name(), "neigh"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("managed"))
}

/// Whether an XDP program is on the balancer's interface.
fn program_on(web: &Web) -> Result<bool> {
    let output = Command::new("ip").args(["-n", web.lab.balancer.name(), "link", "show", "eth0"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("xdp"))
}

#[test]
fn an_operators_own_neighbour_entry_is_used_and_left_alone() -> Result<()> {
    let web = Web::new(1)?;
    let balancer = &web.lab.balancer;
    web.lab.backends[0].ip("link set eth0 address 02:00:00:00:00:b0")?;
    balancer.ip("neigh replace 10.77.0.11 lladdr 02:00:00:00:00:b0 dev eth0 nud permanent")?;
    let mut controller = Controller::start(balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    ensure!(web.requests(20)?.failed == 0);
    controller.done(&["detach"])?;
    controller.ended()?;
    let output = Command::new("ip").args(["-n", balancer.name(), "neigh", "show", "10.77.0.11"]).output()?;
    let entry = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(entry.contains("02:00:00:00:00:b0 PERMANENT"), "{entry}");
    Ok(())
}

#[test]
fn a_file_where_the_socket_belongs_is_not_removed() -> Result<()> {
    let web = Web::new(1)?;
    let mut controller = Controller::prepare(&web.lab.balancer, &web.config(&[1]))?;
    std::fs::write(controller.socket(), "precious")?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("something else is there"), "{error}");
    ensure!(std::fs::read_to_string(controller.socket())? == "precious");
    Ok(())
}
