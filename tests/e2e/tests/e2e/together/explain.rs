//! Where flows go, by the model and by the loaded program, now, under another config, and earlier.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Explanation;
use harness::client::request_from;
use harness::controller::Controller;
use harness::tamper::Pinned;
use harness::web::Web;

const SERVICE: &str = "192.0.2.10:8000";

fn explain(controller: &Controller<'_>, port: u16, more: &[&str]) -> Result<Explanation> {
    let source = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), port).to_string();
    let explanation: Explanation = controller.json(&[&["explain", "tcp", &source, SERVICE], more].concat())?;
    if let Some(program) = &explanation.program {
        ensure!(program.agrees, "{explanation:#?}");
    }
    Ok(explanation)
}

#[test]
fn model_and_program_agree_and_say_where_connections_really_go() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 2, 3]))?;
    controller.wait_all_up()?;
    for port in 40_000..40_040 {
        let explanation = explain(&controller, port, &[])?;
        ensure!(explanation.program.is_some(), "the program was not asked");
        let route = explanation.route.context("no route")?;
        let answer = request_from(&web.lab.client, web.address(), port)?;
        ensure!(route.backend.as_str() == answer, "explained {}, and {answer} answered", route.backend);
        ensure!(
            (route.mtu, route.largest_packet, route.open, route.tracked) == (1600, 1600, false, false),
            "{route:?}"
        );
    }
    let text = controller.done(&["explain", "tcp", "10.77.0.1:40000", SERVICE])?;
    for part in [
        "anybody may open flows",
        "the loaded program decides the same, to the byte (XDP_TX)",
        "packets of 1600 bytes, 1600 of them the client's",
    ] {
        ensure!(text.contains(part), "no {part:?} in\n{text}");
    }
    let nobodys: Explanation = controller.json(&["explain", "tcp", "10.77.0.1:1", "198.51.100.1:80"])?;
    ensure!(nobodys.verdict == "pass" && nobodys.program.is_some_and(|program| program.agrees));
    Ok(())
}

#[test]
fn every_slot_says_which_change_gave_it_its_owner_and_where_its_flows_went_before() -> Result<()> {
    let web = Web::new(3)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let ports = 40_000..40_030;
    let before: Vec<Explanation> = ports.clone().map(|port| explain(&controller, port, &[])).collect::<Result<_>>()?;
    let then = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    // Changes are told apart by the second.
    std::thread::sleep(Duration::from_millis(1100));
    controller.done(&["weight", "web/b0", "900"])?;
    controller.end(nix::sys::signal::Signal::SIGKILL)?;
    controller.run()?;
    controller.wait_all_up()?;
    let (mut moved, mut stayed) = (0, 0);
    for (port, before) in ports.zip(before) {
        let was = before.route.context("no route before")?;
        let now = explain(&controller, port, &["--at", &then])?;
        let elsewhere = now.elsewhere.context("nothing of then")?;
        ensure!(elsewhere.backend.as_ref() == Some(&was.owner), "{elsewhere:?}, but it was {}", was.owner);
        let route = now.route.context("no route")?;
        let put_there = route.put_there.context("nobody put it there")?;
        ensure!(elsewhere.same == (route.owner == was.owner));
        if route.owner == was.owner {
            stayed += 1;
            ensure!(!put_there.cause.contains("weight"), "{put_there:?}");
        } else {
            moved += 1;
            ensure!(put_there.cause == "weight 900 of web/b0 by uid 0", "{put_there:?}");
        }
    }
    ensure!(moved > 3 && stayed > 3, "{moved} moved, {stayed} stayed");
    controller.refused(
        &["explain", "tcp", "10.77.0.1:1", SERVICE, "--at", "2001-01-01T00:00:00Z"],
        &["tables of web are known since", "not at 2001"],
    )?;
    controller.refused(&["explain", "tcp", "10.77.0.1:1", SERVICE, "--at", "noon"], &["write a time such as"])
}

#[test]
fn under_another_config_it_says_where_flows_would_go_and_there_they_go() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100, 100]))?;
    controller.wait_all_up()?;
    let proposed = controller.propose(&[("weight = 100", "weight = 700")])?;
    let with: Vec<Explanation> =
        (40_000..40_030).map(|port| explain(&controller, port, &["--with", &proposed.path])).collect::<Result<_>>()?;
    std::fs::write(controller.config(), &proposed.text)?;
    controller.done(&["reload"])?;
    let mut others = 0;
    for (port, with) in (40_000..40_030).zip(with) {
        let elsewhere = with.elsewhere.context("nothing of the other config")?;
        others += usize::from(!elsewhere.same);
        let now = explain(&controller, port, &[])?.route.context("no route")?;
        ensure!(
            elsewhere.backend == Some(now.owner.clone()) && elsewhere.slot == Some(now.slot),
            "{elsewhere:?} {now:?}"
        );
    }
    ensure!(others > 3, "only {others} would go elsewhere");
    Ok(())
}

#[test]
fn in_an_open_slot_nothing_is_remembered_and_established_connections_stay() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
    controller.wait_all_up()?;
    controller.done(&["weight", "web/b1", "900"])?;
    let mut open = 0;
    for port in 40_000..40_060 {
        let explanation = explain(&controller, port, &[])?;
        let route = explanation.route.context("no route")?;
        if route.open {
            open += 1;
            ensure!(
                explanation.steps.iter().any(|step| step.contains("a packet from within the flow")),
                "{:#?}",
                explanation.steps
            );
        }
    }
    ensure!(open > 3, "{open} slots were open");
    let entries = controller.status()?.services[0].flow_table_entries;
    ensure!(entries == 0, "{entries} flows are remembered of none that began");
    Ok(())
}

#[test]
fn a_program_that_decides_otherwise_is_told() -> Result<()> {
    let web = Web::new(2)?;
    let service = web.service(&[100, 100]).node("[verify]\nself_heal = false\ninterval = \"1h\"");
    let controller = Controller::start(&web.lab.balancer, &service.text())?;
    controller.wait_all_up()?;
    explain(&controller, 40_000, &[])?;
    // The controller still has the table that the program does not find any more.
    Pinned::of(controller.pin_dir()).delete("TABLES", 0)?;
    let output = controller.cli(&["explain", "tcp", "10.77.0.1:40000", SERVICE])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    ensure!(text.contains("THE LOADED PROGRAM DISAGREES: XDP_DROP"), "{text}");
    controller.wait_for("the alarm", Duration::from_secs(3), |status| {
        status.alarms.iter().any(|alarm| alarm.alarm == "BalancerExplainDisagrees")
    })?;
    Ok(())
}
