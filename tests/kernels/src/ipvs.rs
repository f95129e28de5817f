//! `balancer import` says what share IPVS programs; here IPVS itself is asked, where the kernel has it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

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
        let worst = LISTS.iter().enumerate().map(|(i, (scheduler, weights))| asked(&host, i, scheduler, weights));
        let worst = worst.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
        Ok(Outcome::works(format!("{} lists, {:.2} % apart at most", LISTS.len(), worst * 100.0)))
    });
}

/// The largest difference of a share between what the import says and what IPVS does.
fn asked(host: &Namespace, i: usize, scheduler: &str, weights: &[u32]) -> Result<f64> {
    let vip = (Ipv4Addr::new(10, 9, 0, 1), 1000 + i as u16);
    let real = |server: usize| format!("127.0.{i}.{}:{}", server + 1, vip.1);
    let mut rules = format!("-A -u {}:{} -s {scheduler}\n", vip.0, vip.1);
    for (server, weight) in weights.iter().enumerate() {
        rules += &format!("-a -u {}:{} -r {} -m -w {weight}\n", vip.0, vip.1, real(server));
    }
    for rule in rules.lines() {
        host.sh(&format!("ipvsadm {rule}"))?;
    }
    host.enter(|| -> Result<()> {
        for port in 0..FLOWS {
            // Nobody listens: refusals of one flow are no matter of the next.
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 10_000 + port))?;
            let _ = socket.send_to(b"flow", vip);
        }
        Ok(())
    })??;
    let counted = counted(host, vip.1)?;
    let options = Options { interfaces: Vec::new(), seed: 1 };
    let imported: Imported = import(Origin::Ipvsadm, "rules", &rules, &options)?;
    let [ServiceShares { backends, lost, .. }] = &imported.services[..] else { anyhow::bail!("{rules}: not taken") };
    let mut worst = 0f64;
    for (server, BackendShares { old_share, .. }) in backends.iter().enumerate() {
        let said = old_share.with_context(|| format!("{rules}: no share is said"))?;
        let got = f64::from(counted.get(&real(server)).copied().unwrap_or(0)) / f64::from(FLOWS);
        let allowed = if scheduler.starts_with("mh") { TOLERANCE } else { EXACT };
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
