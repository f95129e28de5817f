//! `balancer capture`: packets as they come and as they leave, with what was decided, in a file that Wireshark reads.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::controller::Controller;
use harness::web::{PORT, Web};

/// What tshark says of a file: one line a packet with these fields, separated by `|`.
fn tshark(file: &std::path::Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

#[test]
fn every_packet_stands_there_as_it_came_and_as_it_left() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 0]))?;
    controller.wait_for("b0 up", Duration::from_secs(10), |status| {
        status.services[0].backends[0].share.kernel == Some(1.0)
    })?;
    let file = controller.state_dir().join("web.pcapng");
    let out = file.display().to_string();
    std::thread::scope(|scope| -> Result<()> {
        let capture = scope.spawn(|| {
            controller.done(&["capture", "web", "--out", &out, "--count", "20", "--seconds", "20", "--rate", "100000"])
        });
        // The capture runs from the moment at which its first bytes are there.
        while !file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            ensure!(!capture.is_finished(), "the capture ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let counts = web.requests(20)?;
        ensure!(counts.failed == 0, "{counts:?}");
        capture.join().expect("the capture").map(drop)
    })?;
    let fields = ["frame.comment", "frame.interface_name", "ip.dst", "tcp.dstport", "eth.dst", "frame.packet_flags"];
    let packets = tshark(&file, &fields)?;
    ensure!(packets.len() >= 39 && packets.len() <= 42, "{} packets", packets.len());
    let link = web.lab.backends[0].command("ip").args(["-br", "link", "show", "eth0"]).output()?;
    let link = String::from_utf8_lossy(&link.stdout).into_owned();
    let (mut came, mut left) = (0, 0);
    for packet in &packets {
        ensure!(packet[2] == "192.0.2.10" && packet[3] == PORT.to_string(), "{packet:?}");
        if packet[0].contains("comes in") {
            came += 1;
            ensure!(packet[1] == "eth0 in" && packet[0].contains("service web"), "{packet:?}");
        } else {
            left += 1;
            let said = ["forward to eth0", "service web", "slot ", "backend b0"];
            ensure!(said.iter().all(|said| packet[0].contains(said)), "{packet:?}");
            ensure!(packet[1] == "eth0 out" && link.contains(&packet[4]), "{packet:?}, the backend is {link}");
        }
    }
    ensure!(came >= 19 && left >= 19, "{came} came, {left} left");

    // A drop says its reason; packets of other services and flows are not shown.
    controller.done(&["drain", "web/b0", "--accept", "BAL021", "--reason", "nobody is to be left"])?;
    let flow = format!("192.0.2.10:{PORT}");
    let wrong = controller.cli(&["capture", "nobody", "--out", &out])?;
    ensure!(wrong.status.code() == Some(1), "{wrong:?}");
    let nothing = controller.done(&[
        "capture",
        "--flow",
        "tcp",
        "198.51.100.7:5",
        &flow,
        "--out",
        &out,
        "--count",
        "1",
        "--seconds",
        "1",
    ]);
    nothing?;
    ensure!(tshark(&file, &["frame.comment"])?.is_empty(), "a flow that there is not was shown");
    Ok(())
}

#[test]
fn its_rate_is_bounded() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    controller.wait_all_up()?;
    let file = controller.state_dir().join("web.pcapng");
    let out = file.display().to_string();
    std::thread::scope(|scope| -> Result<()> {
        let load = scope.spawn(|| web.requests(1500));
        controller.done(&["capture", "--out", &out, "--count", "100000", "--seconds", "2", "--rate", "50"])?;
        load.join().expect("the load").map(drop)
    })?;
    let processors = std::thread::available_parallelism()?.get();
    let packets = tshark(&file, &["frame.comment"])?.len();
    // Two lines a packet, 50 a second on each processor, and what a full bucket gives at once.
    ensure!(packets > 20 && packets <= 2 * processors * (3 * 50 + 10), "{packets} packets");
    Ok(())
}
