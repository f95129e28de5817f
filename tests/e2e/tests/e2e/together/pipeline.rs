//! The rollout of `deploy/rollout` over several balancers: all of them where it does well, and none after the first harm.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::controller::Controller;
use harness::server::binary;
use harness::web::Web;

const HOSTS: [&str; 3] = ["edge-1", "edge-2", "edge-3"];

/// Configs with this weight of the first backend, for each host.
fn propose(directory: &Path, controllers: &[Controller<'_>], from: u32, to: u32) -> Result<()> {
    for (host, controller) in HOSTS.iter().zip(controllers) {
        let proposed = controller.propose(&[(&format!("weight = {from}"), &format!("weight = {to}"))])?;
        fs::write(directory.join(format!("{host}.toml")), proposed.text)?;
    }
    Ok(())
}

/// In the place of ssh: the host's name selects the controller's socket.
fn reach(directory: &Path, controllers: &[Controller<'_>]) -> Result<std::path::PathBuf> {
    let mut script = String::from("#!/bin/sh\nhost=$1\nshift\ncase $host in\n");
    for (host, controller) in HOSTS.iter().zip(controllers) {
        script += &format!("{host}) export BALANCER_SOCKET={} ;;\n", controller.socket().display());
    }
    let programs = binary("balancer")?.parent().context("no directory")?.display().to_string();
    script += &format!("esac\nPATH={programs}:$PATH\nexport PATH\neval \"$@\"\n");
    let path = directory.join("on");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn rollout(directory: &Path, on: &Path) -> Result<Output> {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/rollout"));
    command.arg(directory).args(HOSTS);
    command.env("ROLLOUT_ON", on).env("ROLLOUT_GUARD", "8s").env("ROLLOUT_WATCH", "1");
    command.env("ROLLOUT_ACCEPT", "BAL016,BAL019").env("ROLLOUT_REASON", "the larger machine");
    command.env("ROLLOUT_PLACE", directory.join("proposed.toml"));
    Ok(command.output()?)
}

#[test]
fn a_rollout_reaches_every_host_or_stops_at_the_first_harm() -> Result<()> {
    let mut webs = [Web::new(2)?, Web::new(2)?, Web::new(2)?];
    let servers = std::mem::take(&mut webs[1].servers);
    let controllers = webs.iter().map(|web| {
        let controller = Controller::start(&web.lab.balancer, &web.config(&[100, 100]))?;
        controller.wait_all_up()?;
        Ok(controller)
    });
    let controllers = controllers.collect::<Result<Vec<_>>>()?;
    let directory = tempfile::tempdir()?;
    let on = reach(directory.path(), &controllers)?;

    propose(directory.path(), &controllers, 100, 150)?;
    let done = rollout(directory.path(), &on)?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.code() == Some(0) && said.contains("done on all hosts"), "{said}");
    for controller in &controllers {
        ensure!((controller.shares()?[0] - 0.6).abs() < 1e-4, "{said}");
    }

    // A server of the second host dies while the next change is on probation there.
    propose(directory.path(), &controllers, 150, 300)?;
    std::thread::scope(|scope| -> Result<()> {
        let second = &controllers[1];
        let death = scope.spawn(move || -> Result<()> {
            let mut servers = servers;
            second.wait_for("probation", Duration::from_secs(30), |status| status.guard.is_some())?;
            servers[1].kill();
            second.wait_for("the end", Duration::from_secs(30), |status| status.guard.is_none()).map(drop)
        });
        let stopped = rollout(directory.path(), &on)?;
        death.join().expect("the death")?;
        let said = format!("{}{}", String::from_utf8_lossy(&stopped.stdout), String::from_utf8_lossy(&stopped.stderr));
        ensure!(stopped.status.code() == Some(1) && said.contains("edge-2 took the change back"), "{said}");
        ensure!(said.contains("web/b1 went down") && !said.contains("rollout: edge-3"), "{said}");
        ensure!((controllers[0].shares()?[0] - 0.75).abs() < 1e-4 && (controllers[2].shares()?[0] - 0.6).abs() < 1e-4);
        let second = fs::read_to_string(controllers[1].config())?;
        ensure!(second.contains("weight = 150"), "{second}");
        Ok(())
    })
}
