//! `balancer loadtest`: the rate that was asked for, within its bound, with failures by kind and the shares that were had.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::binomial::{fits, within_band};
use harness::controller::Controller;
use harness::server::binary;
use harness::web::Web;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde_json::Value;

/// `loadtest` of `web`, to be run in the client's namespace.
fn command(web: &Web, controller: &Controller, args: &str) -> Result<Command> {
    let mut command = web.lab.client.command(&binary("balancer")?.display().to_string());
    command.arg("--socket").arg(controller.socket()).args(["loadtest", "web"]).args(args.split_whitespace());
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a load to its end: its exit code and its report.
fn load(web: &Web, controller: &Controller, args: &str) -> Result<(Option<i32>, Value)> {
    reported(&command(web, controller, &format!("{args} --json"))?.output()?)
}

fn reported(output: &Output) -> Result<(Option<i32>, Value)> {
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).with_context(|| format!("{}: {said}", output.status))?;
    Ok((output.status.code(), report))
}

/// Sockets of the client towards the service: local address and state, as in `/proc/net/tcp`.
fn sockets(web: &Web) -> Result<Vec<(String, String)>> {
    let text = web.lab.client.enter(|| std::fs::read_to_string("/proc/thread-self/net/tcp"))??;
    let std::net::SocketAddr::V4(service) = web.address() else { return Ok(Vec::new()) };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(service.ip().octets()), service.port());
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words[2] == remote).then(|| (words[1].split(':').next().unwrap_or("").to_owned(), words[3].to_owned()))
    };
    Ok(text.lines().skip(1).filter_map(socket).collect())
}

#[test]
fn a_load_keeps_its_rate_and_shows_the_shares() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 300]))?;
    controller.wait_all_up()?;
    within_band(|| {
        let (code, report) = load(&web, &controller, "--rate 300 --duration 3s --http /")?;
        ensure!(code == Some(0), "{report}");
        let achieved = report["rate"]["achieved"].as_f64().context("no rate")?;
        ensure!((achieved - 300.0).abs() < 15.0, "{report}");
        let connections = &report["connections"];
        ensure!(connections["opened"] == 900 && connections["succeeded"] == 900, "{report}");
        ensure!(connections["failed"] == 0 && connections["skipped"] == 0, "{report}");
        let at = |what: &str, quantile: &str| report["latency_us"][what][quantile].as_u64().context("no latency");
        ensure!(0 < at("connect", "p50")? && at("connect", "p50")? < at("answer", "p50")?, "{report}");
        ensure!(at("answer", "p99.9")? <= at("answer", "max")?, "{report}");
        ensure!(report["notes"] == Value::Array(Vec::new()), "{report}");
        let backends = report["backends"].as_array().context("no backends")?;
        let flows: Vec<u64> = backends.iter().filter_map(|backend| backend["new_flows"].as_u64()).collect();
        ensure!(flows.iter().sum::<u64>() == 900 && fits(flows[0], 900, 0.25), "{report}");
        let planned = backends[0]["planned"].as_f64().context("no share")?;
        ensure!((planned - 0.25).abs() < 1.0 / 65_537.0, "{report}");
        ensure!(backends[1]["observed"].as_f64() == Some(flows[1] as f64 / 900.0), "{report}");
        Ok(())
    })?;
    let output = command(&web, &controller, "--rate 100 --duration 1s --http /")?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in
        ["web at 192.0.2.10:8000: 100 connections in 1.0 s", "100 succeeded, 0 failed", "first answer", "25.00 %"]
    {
        ensure!(text.contains(part), "no {part:?} in\n{text}");
    }
    Ok(())
}

#[test]
fn failures_are_counted_by_kind() -> Result<()> {
    let mut web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.service(&[1, 1]).unchecked().text())?;
    controller.wait_all_up()?;
    let (code, report) = load(&web, &controller, "--rate 100 --duration 500ms --http /nothing")?;
    ensure!(code == Some(1) && report["failures"]["other"]["HTTP status 404"] == 50, "{report}");

    web.servers[0].kill();
    let (code, report) = load(&web, &controller, "--rate 200 --duration 1s --http /")?;
    let flows = &report["backends"][0]["new_flows"];
    ensure!(code == Some(1) && flows.as_u64().is_some_and(|flows| flows > 20), "{report}");
    // Every connection to the dead server, and no other.
    ensure!(report["failures"]["refused"] == *flows && report["connections"]["failed"] == *flows, "{report}");
    Ok(())
}

#[test]
fn never_are_more_connections_open_than_allowed() -> Result<()> {
    /// States of `/proc/net/tcp` in which a client waits for a server: established, SYN sent.
    const OPEN: [&str; 2] = ["01", "02"];
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.service(&[1]).unchecked().text())?;
    controller.wait_all_up()?;
    let server = Pid::from_raw(web.servers[0].pid() as i32);
    // The kernel takes connections for it, and nobody answers.
    kill(server, Signal::SIGSTOP)?;
    let args = "--rate 200 --duration 3s --timeout 1s --connections 20 --http / --json";
    let mut running = command(&web, &controller, args)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let process = Pid::from_raw(running.id() as i32);
    let mut most = 0;
    while running.try_wait()?.is_none() {
        // The kernel's list is not read at one moment: meanwhile nothing may be closed and opened.
        kill(process, Signal::SIGSTOP)?;
        waitid(Id::Pid(process), WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        most = sockets(&web)?.iter().filter(|(_, state)| OPEN.contains(&state.as_str())).count().max(most);
        kill(process, Signal::SIGCONT)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, report) = reported(&running.wait_with_output()?)?;
    kill(server, Signal::SIGCONT)?;
    ensure!(code == Some(1) && most == 20, "{most} were open at once: {report}");
    let count = |name: &str| report["connections"][name].as_u64().context("no count");
    ensure!(count("most_open")? == 20 && (20..=80).contains(&count("opened")?), "{report}");
    ensure!(count("opened")? + count("skipped")? == 600, "{report}");
    ensure!(report["failures"]["timed_out"] == report["connections"]["opened"], "{report}");
    Ok(())
}

#[test]
fn sources_take_turns_and_other_targets_are_no_flows_of_the_service() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    web.lab.client.ip("addr add 10.77.0.101/24 dev eth0")?;
    // Without a request, the client is the first to close, and its kernel remembers each connection for a minute.
    let (code, report) = load(&web, &controller, "--rate 100 --duration 1s --from 10.77.0.1,10.77.0.101")?;
    ensure!(code == Some(0) && report["latency_us"]["answer"] == Value::Null, "{report}");
    let of = |source: [u8; 4]| -> Result<usize> {
        let source = format!("{:08X}", u32::from_ne_bytes(source));
        Ok(sockets(&web)?.iter().filter(|(local, _)| *local == source).count())
    };
    // The kernel's list is not read at one moment: what moves in it meanwhile may be missed.
    let deadline = Instant::now() + Duration::from_secs(5);
    while (of([10, 77, 0, 1])?, of([10, 77, 0, 101])?) != (50, 50) {
        ensure!(Instant::now() < deadline, "not fifty connections from each source: {:?}", sockets(&web)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    // A server that sends back what it gets.
    let (code, report) = load(&web, &controller, "--rate 100 --duration 500ms --to 10.77.0.11:8001 --request x")?;
    ensure!(code == Some(1) && report["latency_us"]["answer"]["p50"].as_u64() > Some(0), "{report}");
    let notes = report["notes"].to_string();
    ensure!(notes.contains("no connection came through the balancer"), "{notes}");
    Ok(())
}

#[test]
fn an_interrupt_ends_a_load_early_with_its_report() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    let mut command = command(&web, &controller, "--rate 100 --duration 60s --http / --json")?;
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    controller
        .wait_for("connections", Duration::from_secs(10), |status| status.services[0].backends[0].new_flows > 50)?;
    kill(Pid::from_raw(running.id() as i32), Signal::SIGINT)?;
    let (code, report) = reported(&running.wait_with_output()?)?;
    ensure!(code == Some(0) && report["notes"].to_string().contains("ended early"), "{report}");
    let opened = report["connections"]["opened"].as_u64().context("no count")?;
    ensure!((50..1000).contains(&opened) && report["connections"]["succeeded"] == opened, "{report}");
    let achieved = report["rate"]["achieved"].as_f64().context("no rate")?;
    ensure!((achieved - 100.0).abs() < 10.0, "{report}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_and_opens_nothing() -> Result<()> {
    let web = Web::new(1)?;
    let udp = "[[service]]\nname = \"dns\"\nprotocol = \"udp\"\naddress = \"192.0.2.10\"\nport = 53\nforward = \"l2\"\n\
               [service.health]\nkind = \"none\"\n\
               [[service.backend]]\nname = \"b0\"\naddress = \"10.77.0.11\"\nweight = 1\n";
    let controller = Controller::start(&web.lab.balancer, &(web.config(&[1]) + udp))?;
    controller.wait_all_up()?;
    for (args, said) in [
        ("nobody --rate 10 --duration 1s", "there is no service nobody; `balancer status` lists them"),
        ("dns --rate 10 --duration 1s", "dns is a udp service"),
        ("web --rate 200000 --duration 1h", "10000000 is the most: lower --rate or --duration"),
        ("web --rate 1 --duration 500ms", "raise --rate or --duration"),
        ("web --rate 10 --duration 1s --from ::1", "let both be IPv4 or both be IPv6"),
    ] {
        let args = ["loadtest"].into_iter().chain(args.split_whitespace()).collect::<Vec<_>>();
        controller.refused(&args, &[said])?;
    }
    ensure!(controller.status()?.services[0].backends[0].new_flows == 0, "something was opened");
    Ok(())
}
