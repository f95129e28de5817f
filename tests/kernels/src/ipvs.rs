//! `balancer import` says what share IPVS programs; here IPVS itself is asked, where the kernel has it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::import::{BackendShares, Imported, Options, Origin, ServiceShares, import};
use harness::netns::Namespace;
use xtask::report::Verdict;

use super::{Cases, Outcome};

/// Lists of weights with the scheduler that spreads by them.
const LISTS: [(&str, &[u32]); 10] = [
    ("rr", &[9, 1, 5]),
    ("wrr", &[1, 2, 3]),
    ("wrr", &[100, 1]),
    ("wrr", &[7, 0, 3]),
    ("sh -b sh-port", &[100, 100, 100]),
    ("sh -b sh-port", &[1, 2, 3]),
    ("sh -b sh-port", &[300, 20]),
    ("mh -b mh-port", &[100, 1]),
    ("mh -b mh-port", &[300, 100, 0]),
    ("fo", &[1, 5, 3]),
];
const FLOWS: u16 = 3000;
/// `mh` hashes flows at random: six standard deviations of a share are 0.055 at most.
const TOLERANCE: f64 = 0.055;
/// Those of the others are counted out.
const EXACT: f64 = 0.01;

pub(super) fn all(cases: &mut Cases<'_>) {
    let there = Command::new("modprobe").arg("ip_vs").status().is_ok_and(|status| status.success());
    cases.run("shares of IPVS as the import says", || {
        if !there {
            return Ok(Outcome::new(Verdict::Works, "not asked: no ip_vs"));
        }
        let host = Namespace::new("ipvs")?;
        host.ip("addr add 10.9.0.1/24 dev lo")?;
        let rules: Vec<String> = (0..LISTS.len()).map(|i| sent(&host, i)).collect::<Result<_>>()?;
        let mut worst = 0f64;
        for (i, rules) in rules.iter().enumerate() {
            worst = worst.max(apart(&host, i, rules)?);
        }
        Ok(Outcome::works(format!("{} lists, {:.2} % apart at most", LISTS.len(), worst * 100.0)))
    });
}

fn vip(i: usize) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(10, 9, 0, 1), 1000 + i as u16)
}

fn real(i: usize, server: usize) -> String {
    format!("127.0.{i}.{}:{}", server + 1, vip(i).1)
}

/// Sends flows to a service of list `i`; answers its rules.
fn sent(host: &Namespace, i: usize) -> Result<String> {
    let ((scheduler, weights), vip) = (LISTS[i], vip(i));
    let mut rules = format!("-A -u {}:{} -s {scheduler}\n", vip.0, vip.1);
    for (server, weight) in weights.iter().enumerate() {
        rules += &format!("-a -u {}:{} -r {} -m -w {weight}\n", vip.0, vip.1, real(i, server));
    }
    for rule in rules.lines() {
        host.sh(&format!("ipvsadm {rule}"))?;
    }
    host.enter(|| -> Result<()> {
        for port in 0..FLOWS {
            // Nobody listens: refusals of one flow are no matter of the next.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 10_000 + port))?;
            socket.send_to(b"flow", vip).with_context(|| format!("flow {port}"))?;
        }
        Ok(())
    })??;
    Ok(rules)
}

/// The largest difference of a share between what the import says and what IPVS did.
fn apart(host: &Namespace, i: usize, rules: &str) -> Result<f64> {
    // The kernel adds its processors' counts every two seconds.
    let deadline = Instant::now() + Duration::from_secs(20);
    let counted = loop {
        let counted = counted(host, vip(i).1)?;
        let all: u32 = counted.values().sum();
        if all == u32::from(FLOWS) {
            break counted;
        }
        ensure!(Instant::now() < deadline, "{rules}: {all} of {FLOWS} flows were counted: {counted:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let options = Options { interfaces: Vec::new(), seed: 1 };
    let imported: Imported = import(Origin::Ipvsadm, "rules", rules, &options)?;
    let [ServiceShares { backends, lost, .. }] = &imported.services[..] else { anyhow::bail!("{rules}: not taken") };
    let mut worst = 0f64;
    for (server, BackendShares { old_share, .. }) in backends.iter().enumerate() {
        let said = old_share.with_context(|| format!("{rules}: no share is said"))?;
        let got = f64::from(counted.get(&real(i, server)).copied().unwrap_or(0)) / f64::from(FLOWS);
        let allowed = if LISTS[i].0.starts_with("mh") { TOLERANCE } else { EXACT };
        ensure!((said - got).abs() < allowed, "{rules}: server {server} got {got:.4}, the import says {said:.4}");
        worst = worst.max((said - got).abs());
    }
    ensure!(*lost == 0.0, "{rules}: {lost} is said to be lost");
    Ok(worst)
}

/// Connections that IPVS gave to each server of the service on this port.
fn counted(host: &Namespace, port: u16) -> Result<BTreeMap<String, u32>> {
    let output = host.command("ipvsadm").args(["-Ln", "--stats", "--exact"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let servers = rows.filter(|row| row.len() > 2 && row[0] == "->" && row[1].ends_with(&format!(":{port}")));
    servers.map(|row| Ok((row[1].to_owned(), row[2].parse()?))).collect()
}
