//! What real networks send, end to end: services on more than one port, echo requests, fragments in any order, tags,
//! errors about flows, segment sizes, SCTP.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use harness::capture::{Capture, check_sums};
use harness::client;
use harness::controller::{Controller, PATIENT};
use harness::flood::{mac, send_frames};
use harness::lab::{BackendKind, Lab, Topology, VIP4, VIP6};
use harness::netns::Namespace;
use harness::server::Server;
use socket2::{Domain, Protocol, Socket, Type};

const PORT: u16 = 8000;
const CLIENT: [u8; 4] = [10, 77, 0, 1];

struct Net {
    lab: Lab,
    _servers: Vec<Server>,
}

fn net(kind: BackendKind, backends: usize) -> Result<Net> {
    let lab = Lab::new(Topology::OneArmed, &vec![kind; backends])?;
    let start = |(i, namespace)| Server::start(namespace, &format!("b{i}"), PORT);
    let servers = lab.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
    Ok(Net { lab, _servers: servers })
}

fn service(name: &str, protocol: &str, address: &str, port: &str, more: &str, backends: usize) -> String {
    let mut text = format!(
        "[[service]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nport = {port}\n{more}\n\
         [service.health]\nkind = \"tcp\"\nport = {PORT}\n{PATIENT}\n"
    );
    for i in 0..backends {
        let address = Lab::backend4(i);
        let address =
            if more.contains("nat") || !more.contains("six") { IpAddr::V4(address) } else { Lab::backend(i, true) };
        text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\n");
    }
    text
}

/// `l2` to backends of the VIP's family.
fn l2(name: &str, protocol: &str, address: IpAddr, port: &str, backends: usize) -> String {
    let more = if address.is_ipv6() { "forward = \"l2\" # six" } else { "forward = \"l2\"" };
    service(name, protocol, &address.to_string(), port, more, backends)
}

fn start<'a>(net: &'a Net, services: &str) -> Result<Controller<'a>> {
    let controller = Controller::start(&net.lab.balancer, &format!("[[interface]]\nname = \"eth0\"\n{services}"))?;
    controller.wait_all_up()?;
    Ok(controller)
}

#[test]
fn services_on_many_ports_and_on_many_addresses() -> Result<()> {
    let net = net(BackendKind::L2, 2)?;
    net.lab.route_prefix("198.51.100.0/24")?;
    let services = [
        l2("range", "tcp", VIP4.into(), "\"7990-8001\"", 2),
        l2("all", "tcp", VIP6.into(), "\"all\"", 2),
        service("prefix", "tcp", "198.51.100.0/24", "8000", "forward = \"l2\"", 2),
        service("wide", "udp", "198.51.100.0/24", "\"all\"", "forward = \"l2\"", 2),
    ];
    let controller = start(&net, &services.concat())?;
    let client = &net.lab.client;
    let far = |last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last));
    for (address, port) in [(VIP4.into(), PORT), (VIP6.into(), PORT), (far(1), PORT), (far(254), PORT)] {
        let counts = client::requests(client, SocketAddr::new(address, port), 40, 8)?;
        ensure!(counts.failed == 0 && counts.answered.len() == 2, "{address}: {counts:?}");
    }
    client::echo_tcp(client, (VIP4, PORT + 1).into(), 100_000)?;
    client::echo_tcp(client, (VIP6, PORT + 1).into(), 100_000)?;
    client::echo_udp(client, (far(77), PORT + 1).into(), 50, 1000)?;
    // Not in the range, and not the prefix's port: nobody's.
    ensure!(client::requests(client, (VIP4, 80).into(), 1, 1)?.failed == 1);
    ensure!(client::requests(client, SocketAddr::new(far(1), PORT + 1), 1, 1)?.failed == 1);
    let status = controller.status()?;
    let packets = |name: &str| {
        let service = status.services.iter().find(|service| service.name.as_str() == name);
        service.map_or(0, |service| service.backends.iter().map(|backend| backend.packets).sum::<u64>())
    };
    for name in ["range", "all", "prefix", "wide"] {
        ensure!(packets(name) >= 50, "{name}: {}", packets(name));
    }
    Ok(())
}

/// Whether an echo request with `size` bytes of data is answered; the kernel hands over answers with a right checksum.
fn ping(namespace: &Namespace, address: IpAddr, size: usize) -> Result<bool> {
    namespace.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
        let (domain, protocol, kind) = match address {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8u8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(Duration::from_millis(700)))?;
        socket.connect(&SocketAddr::new(address, 0).into())?;
        let mut request = vec![kind, 0, 0, 0, 0, 0, 0, 1];
        request.extend((0..size).map(|i| i as u8));
        socket.send(&request)?;
        let mut answer = vec![0; size + 64];
        Ok(socket.read(&mut answer).is_ok_and(|count| answer[8..count] == request[8..]))
    })?
}

#[test]
fn echo_requests_to_vips_are_answered_and_others_are_the_hosts() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let controller = start(&net, &(l2("a", "tcp", VIP4.into(), "8000", 1) + &l2("b", "tcp", VIP6.into(), "8000", 1)))?;
    let client = &net.lab.client;
    for size in [0, 56, 1400] {
        ensure!(ping(client, VIP4.into(), size)? && ping(client, VIP6.into(), size)?, "{size} bytes");
    }
    ensure!(ping(client, Ipv4Addr::new(10, 77, 0, 2).into(), 56)?, "the host answers for itself");
    net.lab.client.ip("route add 192.0.2.99 via 10.77.0.2")?;
    ensure!(!ping(client, Ipv4Addr::new(192, 0, 2, 99).into(), 56)?, "nobody has this address");
    controller.done(&["detach"])?;
    ensure!(!ping(client, VIP4.into(), 56)?, "who but the program should have answered?");
    Ok(())
}

#[test]
fn fragments_find_their_backend_and_those_of_the_host_the_host() -> Result<()> {
    for (kind, forward) in [(BackendKind::L2, "l2"), (BackendKind::Ipip, "ipip"), (BackendKind::Nat, "nat")] {
        let net = net(kind, 3)?;
        let more = |six: &str| format!("forward = \"{forward}\"{six}");
        let services = service("four", "udp", &VIP4.to_string(), "8001", &more(""), 3)
            + &service("six", "udp", &VIP6.to_string(), "8001", &more(" # six"), 3);
        let services = if forward == "nat" { only_four(&services) } else { services };
        let controller = start(&net, &services)?;
        for backend in &net.lab.backends {
            // Wider links than the client's, where nothing in between could say so.
            let (four, six) = if forward == "nat" { ("via 10.77.0.2", "via fd77::2") } else { ("", "") };
            backend.ip(&format!("route replace 10.77.0.1/32 {four} dev eth0 mtu 1500"))?;
            backend.ip(&format!("-6 route replace fd77::1/128 {six} dev eth0 mtu 1500"))?;
        }
        // Neighbours find each other first.
        for vip in [VIP4.into(), VIP6.into()] {
            client::who_answers(&net.lab.client, SocketAddr::new(vip, PORT + 1), 30_000..30_020, b"first")?;
        }
        for _ in 0..8 {
            client::echo_udp(&net.lab.client, (VIP4, PORT + 1).into(), 10, 4000)
                .with_context(|| format!("{forward}, IPv4"))?;
            if forward != "nat" {
                client::echo_udp(&net.lab.client, (VIP6, PORT + 1).into(), 10, 4000)
                    .with_context(|| format!("{forward}, IPv6\n{:#?}", controller.status()))?;
            }
        }
        net.lab.balancer.ip("route replace 10.77.0.1/32 dev eth0 mtu 1500")?;
        let _own = Server::start(&net.lab.balancer, "lb", PORT)?;
        client::echo_udp(&net.lab.client, (Ipv4Addr::new(10, 77, 0, 2), PORT + 1).into(), 10, 4000)?;
    }
    Ok(())
}

fn only_four(services: &str) -> String {
    services.split_inclusive("[[service]]").take(2).collect::<String>().trim_end_matches("[[service]]").to_owned()
}

fn ethernet(net: &Net) -> Result<etherparse::PacketBuilderStep<etherparse::Ethernet2Header>> {
    Ok(PacketBuilder::ethernet2(mac(&net.lab.client)?, mac(&net.lab.balancer)?))
}

/// Sends frames, and gives what came to backend `i` that is for the service.
fn seen_at(net: &Net, i: usize, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let capture = Capture::start(&net.lab.switch, &format!("p-b{i}"))?;
    send_frames(&net.lab.client, frames)?;
    let ours = |frame: &[u8]| {
        let packet = SlicedPacket::from_ethernet(frame).ok();
        // The client's kernel knows of no flow, and complains of answers.
        let ours = |ip: &etherparse::Ipv4HeaderSlice<'_>| ip.source() == CLIENT && ip.protocol().0 != 1;
        matches!(packet.and_then(|packet| packet.net), Some(NetSlice::Ipv4(ip)) if ours(&ip.header()))
    };
    let seen = capture.stop_after(frames.len(), ours);
    Ok(seen.into_iter().filter(|frame| ours(frame)).collect())
}

#[test]
fn fragments_that_come_before_their_first_follow_it() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let _controller = start(&net, &l2("a", "udp", VIP4.into(), "8001", 1))?;
    let mut whole = Vec::new();
    let payload: Vec<u8> = (0..2000u32).map(|i| i as u8).collect();
    ethernet(&net)?.ipv4(CLIENT, VIP4.octets(), 64).udp(40_000, 8001).write(&mut whole, &payload)?;
    let fragment = |from: usize, to: usize, more: bool| -> Result<Vec<u8>> {
        let mut header = etherparse::Ipv4Header::from_slice(&whole[14..])?.0;
        header.dont_fragment = false;
        header.identification = 4711;
        header.more_fragments = more;
        header.fragment_offset = etherparse::IpFragOffset::try_new((from / 8) as u16)?;
        header.total_len = (20 + to - from) as u16;
        header.header_checksum = header.calc_header_checksum();
        Ok([&whole[..14], &header.to_bytes()[..], &whole[34 + from..34 + to]].concat())
    };
    let end = whole.len() - 34;
    let (first, second, third) = (fragment(0, 800, true)?, fragment(800, 1600, true)?, fragment(1600, end, false)?);
    let seen = seen_at(&net, 0, &[third.clone(), second.clone(), first.clone()])?;
    ensure!(seen.len() == 3, "{} of 3 fragments arrived", seen.len());
    // Twice, and the other way round.
    ensure!(seen_at(&net, 0, &[second, first, third])?.len() == 3);
    Ok(())
}

#[test]
fn tagged_frames_and_sctp_arrive() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let services = [l2("a", "udp", VIP4.into(), "8001", 1), l2("b", "sctp", VIP4.into(), "9000", 1)];
    let _controller = start(&net, &services.concat())?;
    let vlan = |id| etherparse::VlanId::try_new(id).map_err(anyhow::Error::from);
    let mut frames = vec![Vec::new(); 3];
    let udp = |builder: etherparse::PacketBuilderStep<etherparse::VlanHeader>, frame: &mut Vec<u8>| {
        builder.ipv4(CLIENT, VIP4.octets(), 64).udp(40_000, 8001).write(frame, b"tagged")
    };
    udp(ethernet(&net)?.single_vlan(vlan(5)?), &mut frames[0])?;
    udp(ethernet(&net)?.double_vlan(vlan(5)?, vlan(6)?), &mut frames[1])?;
    // An INIT chunk behind the common header (RFC 9260, 3).
    let init = [&9000u16.to_be_bytes()[..], &9000u16.to_be_bytes(), &[0; 8], &[1, 0, 0, 20], &[1; 16]].concat();
    ethernet(&net)?.ipv4(CLIENT, VIP4.octets(), 64).write(&mut frames[2], etherparse::IpNumber::SCTP, &init)?;
    let seen = seen_at(&net, 0, &frames)?;
    ensure!(seen.len() == 3, "{seen:02x?}");
    for frame in &seen {
        ensure!(SlicedPacket::from_ethernet(frame)?.vlan().is_none(), "a tag is left: {frame:02x?}");
        check_sums(frame)?;
    }
    Ok(())
}

#[test]
fn the_segment_size_that_a_syn_offers_is_clamped() -> Result<()> {
    let net = net(BackendKind::L2, 1)?;
    let more = "forward = \"l2\"\nmss_clamp = 1000";
    let _controller = start(&net, &service("a", "tcp", &VIP4.to_string(), "8001", more, 1))?;
    let capture = Capture::start(&net.lab.switch, "p-b0")?;
    client::echo_tcp(&net.lab.client, (VIP4, PORT + 1).into(), 10_000)?;
    let frames = capture.stop();
    let offered = |frame: &Vec<u8>| {
        let Ok(SlicedPacket { transport: Some(TransportSlice::Tcp(tcp)), .. }) = SlicedPacket::from_ethernet(frame)
        else {
            return None;
        };
        let opening = tcp.syn() && !tcp.ack() && tcp.destination_port() == PORT + 1;
        let sizes = tcp.options_iterator().filter_map(|option| match option {
            Ok(etherparse::TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
            _ => None,
        });
        opening.then(|| sizes.last()).flatten()
    };
    let syn = frames.iter().find(|frame| offered(frame).is_some()).context("no SYN was seen")?;
    ensure!(offered(syn) == Some(1000), "{:?}", offered(syn));
    check_sums(syn)
}
