//! What services say beyond address and weights, end to end: errors about their flows, UDP flows across a change, who may
//! open flows and how many, QUIC by connection ID.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::{Ipv4Header, PacketBuilder, SlicedPacket};
use harness::capture::{Capture, inner_packet};
use harness::client;
use harness::controller::{Controller, PATIENT};
use harness::flood::{mac, send_frames};
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::server::Server;

const PORT: u16 = 8000;
const CLIENT: [u8; 4] = [10, 77, 0, 1];
/// A router that complains; nobody has this address.
const ROUTER: [u8; 4] = [10, 99, 0, 1];

struct Net {
    lab: Lab,
    _servers: Vec<Server>,
}

fn net(kind: BackendKind, backends: usize) -> Result<Net> {
    let lab = Lab::new(Topology::OneArmed, &vec![kind; backends])?;
    if kind == BackendKind::Nat {
        for backend in &lab.backends {
            backend.ip("route add 10.77.0.1/32 via 10.77.0.2")?;
        }
    }
    let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT);
    let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
    Ok(Net { lab, _servers: servers })
}

/// One service on `port` of the VIP; `backend` gives further lines of backend `i`.
fn config(protocol: &str, port: u16, more: &str, weights: &[u32], backend: impl Fn(usize) -> String) -> String {
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"a\"\nprotocol = \"{protocol}\"\naddress = \"{VIP4}\"\n\
         port = {port}\n{more}\n[service.health]\nkind = \"tcp\"\nport = {PORT}\n{PATIENT}\n"
    );
    for (i, weight) in weights.iter().enumerate() {
        let address = Lab::backend4(i);
        text += &format!(
            "[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n{}\n",
            backend(i)
        );
    }
    text
}

fn plain(_: usize) -> String {
    String::new()
}

/// An ICMP error of type `kind` about a packet from the service to the client's `port`, that quotes eight bytes of TCP.
fn error(net: &Net, kind: u8, code: u8, port: u16) -> Result<Vec<u8>> {
    let mut quoted = Ipv4Header::new(1480, 60, etherparse::IpNumber::TCP, VIP4.octets(), CLIENT)?;
    quoted.header_checksum = quoted.calc_header_checksum();
    let ports = [PORT.to_be_bytes(), port.to_be_bytes()].concat();
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0x14];
    message.extend(quoted.to_bytes());
    message.extend([&ports[..], &[0, 0, 0, 1]].concat());
    let sum: u32 = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    message[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(mac(&net.lab.client)?, mac(&net.lab.balancer)?);
    builder.ipv4(ROUTER, VIP4.octets(), 64).write(&mut frame, etherparse::IpNumber::ICMP, &message)?;
    Ok(frame)
}

/// The ICMP message of the router in a frame, taken out of whatever carries it.
fn relayed(frame: &[u8]) -> Option<Vec<u8>> {
    let from_router = |packet: &SlicedPacket<'_>| match &packet.net {
        Some(etherparse::NetSlice::Ipv4(ip)) if ip.header().source() == ROUTER => Some(ip.payload().payload.to_vec()),
        _ => None,
    };
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    if let Some(message) = from_router(&packet) {
        return Some(message);
    }
    let net = packet.net.as_ref()?;
    if let Some(inner) = inner_packet(net) {
        return from_router(&SlicedPacket::from_ip(inner).ok()?);
    }
    let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport else { return None };
    from_router(&SlicedPacket::from_ip(udp.payload().get(4..)?).ok()?)
}

#[test]
fn errors_that_quote_eight_bytes_reach_the_backend_of_the_flow() -> Result<()> {
    let modes =
        [("l2", BackendKind::L2), ("ipip", BackendKind::Ipip), ("gue", BackendKind::Ipip), ("nat", BackendKind::Nat)];
    for (forward, kind) in modes {
        let net = net(kind, 3)?;
        let text = config("tcp", PORT, &format!("forward = \"{forward}\""), &[100; 3], plain);
        let controller = Controller::start(&net.lab.balancer, &text)?;
        controller.wait_all_up()?;
        let mut owners = std::collections::BTreeSet::new();
        for (place, port) in (20_000..20_008u16).enumerate() {
            let owner = client::request_from(&net.lab.client, (VIP4, PORT).into(), port)
                .with_context(|| format!("{forward}, port {port}"))?;
            let captures =
                (0..3).map(|i| Capture::start(&net.lab.switch, &format!("p-b{i}"))).collect::<Result<Vec<_>>>()?;
            let (kind, code) = [(3, 4), (3, 1), (11, 0), (12, 0)][place % 4];
            send_frames(&net.lab.client, &[error(&net, kind, code, port)?])?;
            let (mut captures, is_owner): (Vec<_>, _) =
                (captures.into_iter().enumerate().collect(), |i: usize| owner == format!("b{i}"));
            // What has come to the others came before what comes to the owner, or will not come.
            captures.sort_by_key(|(i, _)| !is_owner(*i));
            for (i, capture) in captures {
                let wanted = usize::from(is_owner(i));
                let frames = capture.stop_after(wanted, |frame| relayed(frame).is_some());
                let messages: Vec<_> = frames.iter().filter_map(|frame| relayed(frame)).collect();
                ensure!(
                    messages.len() == wanted,
                    "{forward}: b{i} got {} errors, {owner} has the flow",
                    messages.len()
                );
                let Some(message) = messages.first() else { continue };
                let source = if forward == "nat" { Lab::backend4(i) } else { VIP4 };
                ensure!(
                    message[..2] == [kind, code] && message[20..24] == source.octets(),
                    "{forward}: {message:02x?}"
                );
            }
            owners.insert(owner);
        }
        ensure!(owners.len() > 1, "{forward}: all flows went to one backend");
        let events = controller.status()?.services[0].events.clone();
        ensure!(events.get("icmp_relayed") == Some(&8), "{events:?}");
    }
    Ok(())
}

/// Of flows that were there before a change, how many moved; of as many later ones, how many went by the new weights.
fn across_a_change(tracking: &str) -> Result<(usize, usize)> {
    const FLOWS: u16 = 300;
    let net = net(BackendKind::L2, 2)?;
    let more = format!("forward = \"l2\"\n[service.connections]\nquiet = \"30s\"\n{tracking}");
    let text = |weights: &[u32]| config("udp", PORT + 1, &more, weights, plain);
    let controller = Controller::start(&net.lab.balancer, &text(&[500, 500]))?;
    controller.wait_all_up()?;
    let ask = |first: u16| client::who_answers(&net.lab.client, (VIP4, PORT + 1).into(), first..first + FLOWS, b"who");
    ask(10_000)?;
    let before = ask(10_000)?;
    ensure!(before.iter().all(Option::is_some), "some were not answered");
    controller.configure(&text(&[1000, 1]))?;
    controller.done(&["reload"])?;
    let after = ask(10_000)?;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    let younger = ask(30_000)?;
    Ok((moved, younger.iter().filter(|name| name.as_deref() == Some("b0")).count()))
}

#[test]
fn udp_flows_stay_as_long_as_the_service_says() -> Result<()> {
    let (moved, by_weight) = across_a_change("tracking = \"none\"")?;
    ensure!(moved > 100 && by_weight > 290, "none: {moved} moved, {by_weight} by the new weights");
    let (moved, by_weight) = across_a_change("tracking = \"full\"")?;
    ensure!(moved == 0 && by_weight > 290, "full: {moved} moved, {by_weight} by the new weights");
    // Who comes within the window can't be told from older ones.
    let (moved, by_weight) = across_a_change("tracking = \"window\"\nwindow = \"30s\"")?;
    ensure!(moved == 0 && by_weight < 250, "window: {moved} moved, {by_weight} by the new weights");
    Ok(())
}

#[test]
fn a_list_of_a_hundred_thousand_prefixes_is_replaced_at_once() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("denied");
    // Half of the address space in /24s, none of them the client's.
    let prefixes: String = (0..100_000u32).map(|i| format!("{}/24\n", Ipv4Addr::from(0x8000_0000 | i << 8))).collect();
    std::fs::write(&file, &prefixes)?;
    let text = config("tcp", PORT, &format!("forward = \"l2\"\ndeny_file = \"{}\"", file.display()), &[100], plain);
    let controller = Controller::start(&net.lab.balancer, &text)?;
    controller.wait_all_up()?;
    let answered =
        |count| client::requests(&net.lab.client, (VIP4, PORT).into(), count, 4).map(|counts| counts.total());
    ensure!(answered(50)? == 50);
    std::fs::write(&file, format!("{prefixes}10.77.0.0/24 # with the client\n"))?;
    let start = Instant::now();
    controller.done(&["reload"])?;
    let took = start.elapsed();
    ensure!(answered(2)? == 0, "who is on the list is refused");
    ensure!(controller.status()?.services[0].events["acl_refused"] > 0);
    // A line that can't be read changes nothing, and names itself.
    std::fs::write(&file, format!("{prefixes}10.77.0.0/33\n"))?;
    let refused = controller.cli(&["reload"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("100001"), "{said}");
    ensure!(answered(1)? == 0, "what ran before goes on");
    std::fs::write(&file, &prefixes)?;
    controller.done(&["reload"])?;
    ensure!(answered(50)? == 50);
    println!("100,000 prefixes were in force {took:?} after the command");
    Ok(())
}

#[test]
fn new_flows_are_limited_and_established_ones_are_not() -> Result<()> {
    for (limits, event) in [
        ("new_flows_per_second = 5\nnew_flows_burst = 10", "rate_limited"),
        ("source_new_flows_per_second = 5\nsource_new_flows_burst = 10", "source_rate_limited"),
    ] {
        let net = net(BackendKind::L2, 1)?;
        let text = config("udp", PORT + 1, &format!("forward = \"l2\"\n{limits}"), &[100], plain);
        let controller = Controller::start(&net.lab.balancer, &text)?;
        controller.wait_all_up()?;
        let first = client::who_answers(&net.lab.client, (VIP4, PORT + 1).into(), 10_000..10_001, b"who")?;
        ensure!(first[0].is_some());
        let many = client::who_answers(&net.lab.client, (VIP4, PORT + 1).into(), 11_000..11_020, b"who")?;
        let through = many.iter().flatten().count();
        // Each that is refused costs 300 ms of waiting, in which one or two more may come.
        ensure!((9..20).contains(&through), "{limits}: {through} of 20 came through");
        for _ in 0..20 {
            let again = client::who_answers(&net.lab.client, (VIP4, PORT + 1).into(), 10_000..10_001, b"who")?;
            ensure!(again[0].is_some(), "{limits}: an established flow was refused");
        }
        let events = controller.status()?.services[0].events.clone();
        ensure!(events[event] > 0, "{events:?}");
    }
    Ok(())
}

#[test]
fn quic_packets_go_by_the_server_id_in_their_connection_id() -> Result<()> {
    let net = net(BackendKind::L2, 4)?;
    let id = |i: usize| format!("server_id = \"0a0{i}\"");
    let more = "forward = \"l2\"\n[service.quic]\nconfig_id = 2";
    let controller = Controller::start(&net.lab.balancer, &config("udp", PORT + 1, more, &[100; 4], id))?;
    controller.wait_all_up()?;
    let ask = |first: u16, payload: &[u8]| {
        client::who_answers(&net.lab.client, (VIP4, PORT + 1).into(), first..first + 40, payload)
    };
    for i in 0..4u8 {
        // Short header; configuration 2 and five bits of the server's; its id; what it likes.
        let payload = [0x41, 2 << 5 | 9, 0x0a, i, 1, 2, 3, 4, 5, 6, 7, 8];
        let name = format!("b{i}");
        let answers = ask(10_000 + u16::from(i) * 100, &payload)?;
        ensure!(answers.iter().all(|answer| answer.as_deref() == Some(&name)), "{name}: {answers:?}");
    }
    let spread =
        |answers: Vec<Option<String>>| answers.into_iter().flatten().collect::<std::collections::BTreeSet<_>>();
    // Long headers, and ids that nobody has, go by the flow.
    let long = spread(ask(20_000, &[0xc1, 0, 0, 0, 1, 4, 0x49, 0x0a, 0, 1, 2, 3])?);
    let unknown = spread(ask(21_000, &[0x41, 2 << 5, 0x0a, 9, 1, 2, 3, 4, 5, 6, 7, 8])?);
    ensure!(long.len() == 4 && unknown.len() == 4, "{long:?} {unknown:?}");
    let events = controller.status()?.services[0].events.clone();
    ensure!(events["quic_routed"] == 160 && events["quic_unknown"] == 40, "{events:?}");
    Ok(())
}

#[test]
fn what_can_not_come_from_a_client_is_dropped_and_counted() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let controller = Controller::start(&net.lab.balancer, &config("udp", PORT + 1, "forward = \"l2\"", &[100], plain))?;
    controller.wait_all_up()?;
    let frame = |source: [u8; 4], ttl: u8| -> Result<Vec<u8>> {
        let builder = PacketBuilder::ethernet2(mac(&net.lab.client)?, mac(&net.lab.balancer)?);
        let mut frame = Vec::new();
        builder.ipv4(source, VIP4.octets(), ttl).udp(40_000, PORT + 1).write(&mut frame, b"what")?;
        Ok(frame)
    };
    let mut wrong = frame(CLIENT, 64)?;
    wrong[24] ^= 1;
    let frames =
        [frame([127, 0, 0, 1], 64)?, frame([224, 0, 0, 5], 64)?, frame(VIP4.octets(), 64)?, frame(CLIENT, 1)?, wrong];
    let capture = Capture::start(&net.lab.switch, "p-b0")?;
    send_frames(&net.lab.client, &frames)?;
    controller.wait_for("each counted with its reason", Duration::from_secs(5), |status| {
        let counted = |reason| status.dropped.get(reason).copied().unwrap_or(0);
        ["martian", "ttl_expired", "checksum"].map(counted) == [3, 1, 1]
    })?;
    let from_us = |frame: &&Vec<u8>| frame.ends_with(b"what");
    let arrived = capture.stop().iter().filter(from_us).count();
    ensure!(arrived == 0, "{arrived} arrived");
    let metrics = net.lab.balancer.block_on(|| {
        client::http(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9405), "GET", "/metrics", Vec::new())
    })??;
    let line = "balancer_dropped_packets_total{reason=\"martian\"} 3";
    let text = String::from_utf8_lossy(&metrics).into_owned();
    ensure!(text.contains(line), "{}", text.lines().filter(|l| l.contains("dropped")).collect::<Vec<_>>().join("\n"));
    Ok(())
}
