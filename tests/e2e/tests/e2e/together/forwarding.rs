//! Every forwarding mode, family and protocol carries real connections, to the backends and shares that were configured.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use balancer::control::api::{BackendStatus, Status};
use etherparse::{NetSlice, SlicedPacket};
use harness::binomial::{fits, within_band};
use harness::capture::{Capture, check_sums, inner_packet};
use harness::client::{self, Counts};
use harness::controller::{Controller, PATIENT};
use harness::lab::{BackendKind, Lab, Topology, VIP4, VIP6};
use harness::server::Server;

const PORT: u16 = 8000;
/// Weights of the three backends.
const WEIGHTS: [u32; 3] = [1, 2, 3];
const MEGABYTES: usize = 3 << 20;

struct Case {
    forward: &'static str,
    kind: BackendKind,
    vip: IpAddr,
    /// Family of the backends' addresses.
    ipv6: bool,
}

fn config(case: &Case) -> String {
    let mut text = String::from("[[interface]]\nname = \"eth0\"\nmode = \"native\"\n");
    for (protocol, port) in [("tcp", PORT), ("tcp", PORT + 1), ("udp", PORT + 1)] {
        text += &format!(
            "[[service]]\nname = \"{protocol}-{port}\"\nprotocol = \"{protocol}\"\naddress = \"{}\"\nport = {port}\n\
             forward = \"{}\"\n[service.health]\nkind = \"tcp\"\nport = {PORT}\n{PATIENT}\n",
            case.vip, case.forward
        );
        for (i, weight) in WEIGHTS.iter().enumerate() {
            let address = Lab::backend(i, case.ipv6);
            text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n");
        }
    }
    text
}

fn check_shares(counts: &Counts, what: &str) -> Result<()> {
    ensure!(counts.failed == 0, "{what}: {counts:?}");
    for (i, weight) in WEIGHTS.iter().enumerate() {
        let share = f64::from(*weight) / f64::from(WEIGHTS.iter().sum::<u32>());
        let hits = counts.of(&format!("b{i}"));
        ensure!(fits(hits, counts.total(), share), "{what}: b{i} should have {share:.3} of {counts:?}");
    }
    Ok(())
}

fn carries(topology: Topology, case: &Case) -> Result<()> {
    let lab = Lab::new(topology, &[case.kind; 3])?;
    let names = ["b0", "b1", "b2"];
    let _servers: Vec<Server> =
        lab.backends.iter().zip(names).map(|(ns, name)| Server::start(ns, name, PORT)).collect::<Result<_>>()?;
    let mut text = config(case);
    if topology == Topology::Routed {
        text += "[[interface]]\nname = \"eth1\"\nmode = \"native\"\n";
    }
    let controller = Controller::start(&lab.balancer, &text)?;
    controller.wait_all_up()?;
    let (http, echo) = (SocketAddr::new(case.vip, PORT), SocketAddr::new(case.vip, PORT + 1));

    // Backends and client have to find each other first; what that takes is not counted.
    client::requests(&lab.client, http, 40, 1)?;
    let before = controller.status()?;
    let capture = Capture::start(&lab.switch, "p-b2")?;
    let mut flows = (0, 0u16);
    within_band(|| {
        flows.0 += 600;
        check_shares(&client::requests(&lab.client, http, 600, 64)?, "HTTP requests")
    })?;
    within_band(|| {
        flows.1 += 600;
        // Ports of its own for each measurement.
        check_shares(&client::datagrams(&lab.client, echo, 20_000 + flows.1, 600, 64)?, "datagrams")
    })?;
    client::echo_tcp(&lab.client, echo, MEGABYTES)?;
    client::echo_udp(&lab.client, echo, 200, 1200)?;
    let frames = capture.stop();

    for frame in &frames {
        check_sums(frame).with_context(|| format!("{frame:02x?}"))?;
    }
    check_wire(&frames, case)?;
    check_counters(&before, &controller.status()?, flows.0, u64::from(flows.1))
}

/// Looks at what went to one backend: in the right form, and spread over outer sources.
fn check_wire(frames: &[Vec<u8>], case: &Case) -> Result<()> {
    let backend = Lab::backend(2, case.ipv6);
    let mut outer_sources = std::collections::BTreeSet::new();
    let (mut to_backend, mut with_vip) = (0, 0);
    for frame in frames {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { continue };
        let Some(net) = &packet.net else { continue };
        let (source, destination, ttl) = match net {
            NetSlice::Ipv4(ip) => {
                (IpAddr::V4(ip.header().source_addr()), IpAddr::V4(ip.header().destination_addr()), ip.header().ttl())
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()), header.hop_limit())
            }
            NetSlice::Arp(_) => continue,
        };
        match case.kind {
            BackendKind::Ipip => {
                let Some(inner) = inner_packet(net) else { continue };
                ensure!(destination == backend, "an outer header to {destination}");
                ensure!(ttl == 64, "an outer TTL of {ttl}");
                let inner = SlicedPacket::from_ip(inner)?;
                ensure!(matches!(
                    (&inner.net, case.vip),
                    (Some(NetSlice::Ipv4(_)), IpAddr::V4(_)) | (Some(NetSlice::Ipv6(_)), IpAddr::V6(_))
                ));
                outer_sources.insert(source);
                to_backend += 1;
            }
            BackendKind::L2 if destination == case.vip => to_backend += 1,
            BackendKind::Nat if destination == backend && source != "10.77.0.2".parse::<IpAddr>()? => to_backend += 1,
            _ => {}
        }
        with_vip += usize::from(source == case.vip);
    }
    ensure!(to_backend > 500, "only {to_backend} frames of {} went to b2 as they should", frames.len());
    match case.kind {
        BackendKind::Ipip => ensure!(outer_sources.len() > 100, "{} outer sources", outer_sources.len()),
        BackendKind::L2 | BackendKind::Sieved => {
            ensure!(with_vip > 500, "replies must come from the service's address")
        }
        BackendKind::Nat => ensure!(with_vip == 0, "a nat backend does not know the service's address"),
    }
    Ok(())
}

/// Every flow was counted once, and nothing was dropped.
fn check_counters(before: &Status, after: &Status, requests: u64, datagrams: u64) -> Result<()> {
    ensure!(after.dropped.is_empty(), "dropped: {:?}", after.dropped);
    for (name, flows) in [("tcp-8000", requests), ("tcp-8001", 1), ("udp-8001", datagrams + 1)] {
        let sum = |status: &Status, of: fn(&BackendStatus) -> u64| -> Result<u64> {
            let service = status.services.iter().find(|s| s.name.as_str() == name).context("no such service")?;
            Ok(service.backends.iter().map(of).sum())
        };
        let counted = |of| Ok::<u64, anyhow::Error>(sum(after, of)? - sum(before, of)?);
        let new_flows = counted(|backend| backend.new_flows)?;
        // A SYN may be sent twice; two UDP flows may share a bit.
        ensure!(new_flows.abs_diff(flows) <= 3, "{name}: {new_flows} new flows counted, {flows} begun");
        let (packets, bytes) = (counted(|backend| backend.packets)?, counted(|backend| backend.bytes)?);
        ensure!(packets >= flows && bytes > packets * 20, "{packets} packets, {bytes} bytes");
    }
    Ok(())
}

macro_rules! cases {
    ($($name:ident: $topology:ident $forward:literal $kind:ident $vip:ident $ipv6:literal;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let case = Case { forward: $forward, kind: BackendKind::$kind, vip: $vip.into(), ipv6: $ipv6 };
            carries(Topology::$topology, &case)
        }
    )*};
}

cases! {
    l2_ipv4: OneArmed "l2" L2 VIP4 false;
    l2_ipv6: OneArmed "l2" L2 VIP6 true;
    ipip_ipv4_in_ipv4: OneArmed "ipip" Ipip VIP4 false;
    ipip_ipv6_in_ipv6: OneArmed "ipip" Ipip VIP6 true;
    ipip_ipv4_in_ipv6: OneArmed "ipip" Ipip VIP4 true;
    ipip_ipv6_in_ipv4: OneArmed "ipip" Ipip VIP6 false;
    nat_ipv4: Routed "nat" Nat VIP4 false;
    nat_ipv6: Routed "nat" Nat VIP6 true;
    routed_ipip: Routed "ipip" Ipip VIP4 false;
    routed_l2: Routed "l2" L2 VIP6 true;
}
