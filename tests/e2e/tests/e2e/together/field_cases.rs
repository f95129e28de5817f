//! What other balancers are known to get wrong, each shown to be right here: on the loaded program where one packet tells,
//! with real connections where it takes a change.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use balancer::dataplane::{DataPlane, Pins, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::layout::forward;
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use harness::capture::check_sums;
use harness::client;
use harness::controller::Controller;
use harness::lab::{BackendKind, Lab, Topology, VIP4};
use harness::netns::unique;
use harness::server::Server;
use harness::world::{SCTP, Spec, Special, TCP, UDP, World};

/// XDP's answers (linux/bpf.h).
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]];
const CLIENT4: [u8; 4] = [10, 1, 2, 3];
const CLIENT6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const VIP: [u8; 4] = [192, 0, 2, 1];
const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// An address of the host, or of nobody: no service's.
const OTHER: [u8; 4] = [192, 0, 2, 200];
const OTHER6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200];

struct Loaded {
    plane: DataPlane,
    specs: Vec<Spec>,
    pin_dir: PathBuf,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = detach(&self.pin_dir);
    }
}

impl Loaded {
    fn new() -> Result<Self> {
        let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("cases"));
        let limits = Limits { services: 128, backends: 1000, table_size: 101, ..Limits::DEFAULT };
        let (plane, _logger) = DataPlane::load(Pins::create(&pin_dir)?, limits, DatapathLog::Off)?;
        let world = World::new()?;
        let mut loaded = Self { plane, specs: world.specs, pin_dir };
        loaded.plane.apply(world.changes)?;
        Ok(loaded)
    }

    fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; 4096];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.plane.xdp()?.test_run(options).context("BPF_PROG_TEST_RUN")?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    fn port(&self, family: u8, protocol: u8, mode: u8, special: Special) -> Result<u16> {
        let wanted =
            |spec: &&Spec| (spec.family, spec.protocol, spec.mode, spec.special) == (family, protocol, mode, special);
        self.specs.iter().find(wanted).map(|spec| spec.port).context("no such service")
    }
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(MACS[0], MACS[1])
}

fn written(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>,
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    write(&mut frame)?;
    Ok(frame)
}

fn tcp4(port: u16, payload: usize) -> Result<Vec<u8>> {
    let step = ethernet().ipv4(CLIENT4, VIP, 64).tcp(40_000, port, 1, 1000);
    written(|frame| step.write(frame, &vec![7; payload]))
}

/// The ICMP checksum must be right, which includes the end-around carry, for every identifier there is.
#[test]
fn echo_is_answered_for_vips_only_and_every_identifier_has_a_right_checksum() -> Result<()> {
    let mut loaded = Loaded::new()?;
    for id in 0..=u16::MAX {
        let header = IcmpEchoHeader { id, seq: 1 };
        let four = ethernet().ipv4(CLIENT4, VIP, 64).icmpv4(Icmpv4Type::EchoRequest(header));
        let (answer, out) = loaded.run(&written(|frame| four.write(frame, b"data"))?)?;
        ensure!(answer == TX, "id {id}: {answer}");
        let packet = SlicedPacket::from_ethernet(&out)?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (&packet.net, &packet.transport) else {
            anyhow::bail!("id {id}: no ICMP");
        };
        ensure!((ip.header().source(), ip.header().destination()) == (VIP, CLIENT4) && out[..6] == MACS[0]);
        ensure!(icmp.icmp_type() == Icmpv4Type::EchoReply(header), "id {id}: {:?}", icmp.icmp_type());
        ensure!(icmp.checksum() == icmp.icmp_type().calc_checksum(icmp.payload()), "id {id}: a wrong checksum");
        if id % 16 == 0 {
            let six = ethernet().ipv6(CLIENT6, VIP6, 64).icmpv6(Icmpv6Type::EchoRequest(header));
            let (answer, out) = loaded.run(&written(|frame| six.write(frame, b"data"))?)?;
            let packet = SlicedPacket::from_ethernet(&out)?;
            let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { anyhow::bail!("id {id}: no ICMPv6") };
            ensure!(answer == TX && icmp.is_checksum_valid(VIP6, CLIENT6), "id {id}: a wrong checksum");
        }
    }
    let other = ethernet().ipv4(CLIENT4, OTHER, 64).icmpv4_echo_request(7, 7);
    let frame = written(|frame| other.write(frame, b"data"))?;
    ensure!(loaded.run(&frame)? == (PASS, frame));
    Ok(())
}

/// Fragmented DNS, IGMP with its router alert, and whatever else the host needs for itself.
#[test]
fn what_is_for_the_host_passes_whatever_it_looks_like() -> Result<()> {
    let mut loaded = Loaded::new()?;
    let ipv4 = |destination, more, offset, options: &[u8]| -> Result<etherparse::Ipv4Header> {
        let mut header = etherparse::Ipv4Header::new(8, 64, IpNumber::UDP, CLIENT4, destination)?;
        (header.more_fragments, header.dont_fragment) = (more, false);
        header.fragment_offset = etherparse::IpFragOffset::try_new(offset)?;
        header.options = options.try_into()?;
        header.total_len = (header.header_len() + 8) as u16;
        header.header_checksum = header.calc_header_checksum();
        Ok(header)
    };
    let frame = |header: &etherparse::Ipv4Header| {
        let macs = [&MACS[1][..], &MACS[0], &[8, 0]].concat();
        [&macs[..], &header.to_bytes(), &[0x9c, 0x40, 0, 53, 0, 8, 0, 0]].concat()
    };
    let router_alert = [0x94, 4, 0, 0];
    let mut igmp = ipv4([224, 0, 0, 22], false, 0, &router_alert)?;
    igmp.protocol = IpNumber::IGMP;
    igmp.header_checksum = igmp.calc_header_checksum();
    let mut fragment6 = vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 44, 64];
    fragment6.extend(CLIENT6);
    fragment6.extend(OTHER6);
    fragment6.extend([17, 0, 0, 0xb9, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
    let fragment6 = [&MACS[1][..], &MACS[0], &fragment6].concat();
    let frames = [
        frame(&ipv4(OTHER, true, 0, &[])?),
        frame(&ipv4(OTHER, false, 100, &[])?),
        frame(&ipv4(OTHER, false, 0, &router_alert)?),
        frame(&igmp),
        fragment6.clone(),
    ];
    for frame in &frames {
        ensure!(loaded.run(frame)? == (PASS, frame.clone()), "{frame:02x?}");
    }
    // For a VIP, whose first fragment never came, it is another matter.
    ensure!(loaded.run(&frame(&ipv4(VIP, false, 100, &[])?))?.0 == DROP);
    let mut for_vip = fragment6;
    for_vip[38..54].copy_from_slice(&VIP6);
    ensure!(loaded.run(&for_vip)?.0 == DROP);
    Ok(())
}

#[test]
fn an_ipv6_service_with_ipv4_backends_has_the_right_outer_header() -> Result<()> {
    let mut loaded = Loaded::new()?;
    let port = loaded.port(6, TCP, forward::IPIP4, Special::Nothing)?;
    let step = ethernet().ipv6(CLIENT6, VIP6, 64).tcp(40_000, port, 1, 1000);
    let frame = written(|frame| step.write(frame, b"hello"))?;
    let (answer, out) = loaded.run(&frame)?;
    ensure!(answer == REDIRECT && out.len() == frame.len() + 20, "{answer}: {out:02x?}");
    let packet = SlicedPacket::from_ethernet(&out)?;
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { anyhow::bail!("no IPv4 outside") };
    ensure!(ip.header().protocol() == IpNumber::IPV6 && usize::from(ip.header().total_len()) == out.len() - 14);
    check_sums(&out)
}

#[test]
fn tags_extension_headers_sctp_and_errors_are_balanced() -> Result<()> {
    let mut loaded = Loaded::new()?;
    let l2 = loaded.port(4, TCP, forward::L2, Special::Nothing)?;
    let l2_6 = loaded.port(6, TCP, forward::L2, Special::Nothing)?;
    let sctp = loaded.port(4, SCTP, forward::L2, Special::Nothing)?;
    let vlan = etherparse::VlanId::try_new(100)?;
    let tagged = ethernet().single_vlan(vlan).ipv4(CLIENT4, VIP, 64).tcp(40_000, l2, 1, 1000);
    let plain6 = ethernet().ipv6(CLIENT6, VIP6, 64).tcp(40_000, l2_6, 1, 1000);
    let plain6 = written(|frame| plain6.write(frame, b"hello"))?;
    let mut hop_by_hop = [&plain6[..54], &[6, 0, 5, 2, 0, 0, 1, 0], &plain6[54..]].concat();
    hop_by_hop[20] = 0;
    hop_by_hop[19] += 8;
    let common = [&40_000u16.to_be_bytes()[..], &sctp.to_be_bytes(), &[0; 8], &[1, 0, 0, 20], &[1; 16]].concat();
    let init = ethernet().ipv4(CLIENT4, VIP, 64);
    // A packet from the service to a client, as a router quotes it.
    let quoted = ethernet().ipv4(VIP, CLIENT4, 1).tcp(l2, 40_000, 1, 1000);
    let quoted = written(|frame| quoted.write(frame, &[]))?;
    let exceeded = Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit);
    let exceeded = ethernet().ipv4([10, 9, 9, 9], VIP, 64).icmpv4(exceeded);
    let frames = [
        written(|frame| tagged.write(frame, b"hello"))?,
        hop_by_hop,
        written(|frame| init.write(frame, IpNumber::SCTP, &common))?,
        written(|frame| exceeded.write(frame, &quoted[14..42]))?,
    ];
    for (place, frame) in frames.iter().enumerate() {
        let (answer, out) = loaded.run(frame)?;
        ensure!(answer == REDIRECT, "frame {place}: {answer}");
        ensure!(out[..6] != frame[..6], "frame {place} did not change its destination");
    }
    Ok(())
}

/// What does not fit behind an outer header is answered, with how much would fit.
#[test]
fn a_full_frame_that_grows_too_large_is_answered() -> Result<()> {
    let mut loaded = Loaded::new()?;
    for (mode, room) in [(forward::IPIP4, 1480), (forward::IPIP6, 1460), (forward::GUE4, 1468), (forward::GUE6, 1448)] {
        let port = loaded.port(4, TCP, mode, Special::Nothing)?;
        let frame = tcp4(port, 1460)?;
        ensure!(frame.len() == 1514);
        let (answer, out) = loaded.run(&frame)?;
        let packet = SlicedPacket::from_ethernet(&out)?;
        let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { anyhow::bail!("mode {mode}: {out:02x?}") };
        ensure!(answer == TX && icmp.type_u8() == 3 && icmp.code_u8() == 4, "mode {mode}");
        ensure!(icmp.bytes5to8()[2..] == u16::to_be_bytes(room), "mode {mode}: {:?}", icmp.bytes5to8());
        ensure!(icmp.checksum() == icmp.icmp_type().calc_checksum(icmp.payload()), "mode {mode}");
        // One byte less than too much goes through.
        ensure!(loaded.run(&tcp4(port, usize::from(room) - 40)?)?.0 == REDIRECT, "mode {mode}");
        ensure!(loaded.run(&tcp4(port, usize::from(room) - 39)?)?.0 == TX, "mode {mode}");
    }
    Ok(())
}

/// A service's packets say nothing about what is remembered of another's flows.
#[test]
fn load_on_one_service_does_not_stop_the_tracking_of_another() -> Result<()> {
    let mut loaded = Loaded::new()?;
    let udp = loaded.port(4, UDP, forward::L2, Special::Nothing)?;
    let open = loaded.port(4, TCP, forward::IPIP4, Special::Open)?;
    let number = loaded.specs.iter().position(|spec| spec.port == open && spec.family == 4).context("number")? as u16;
    let step = ethernet().ipv4(CLIENT4, VIP, 64).udp(40_000, udp);
    let frame = written(|frame| step.write(frame, b"load"))?;
    for _ in 0..200_000 {
        ensure!(loaded.run(&frame)?.0 == REDIRECT);
    }
    for port in 0..300u16 {
        let syn = ethernet().ipv4(CLIENT4, VIP, 64).tcp(1000 + port, open, 1, 1000).syn();
        loaded.run(&written(|frame| syn.write(frame, &[]))?)?;
    }
    let remembered = loaded.plane.flows(number)?.len();
    // Every third slot is open.
    ensure!((60..140).contains(&remembered), "{remembered} of 300 flows are remembered");
    Ok(())
}

fn service(backends: &[(usize, u32)], more: &str) -> String {
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"{VIP4}\"\nport = 8000\n\
         forward = \"l2\"\n{more}\n[service.health]\nkind = \"tcp\"\ninterval = \"500ms\"\ntimeout = \"400ms\"\n"
    );
    for (i, weight) in backends {
        let address = Lab::backend4(*i);
        text += &format!("[[service.backend]]\nname = \"b{i}\"\naddress = \"{address}\"\nweight = {weight}\n");
    }
    text
}

/// Where the last backend goes, new connections no longer go there: they are refused, and counted with the reason.
#[test]
fn without_backends_nothing_goes_where_the_last_one_was() -> Result<()> {
    let lab = Lab::new(Topology::OneArmed, &[BackendKind::L2; 2])?;
    let _servers = [Server::start(&lab.backends[0], "b0", 8000)?, Server::start(&lab.backends[1], "b1", 8000)?];
    let controller = Controller::start(&lab.balancer, &service(&[(0, 100), (1, 100)], ""))?;
    controller.wait_all_up()?;
    let counts = client::requests(&lab.client, (VIP4, 8000).into(), 40, 8)?;
    ensure!(counts.failed == 0 && counts.answered.len() == 2, "{counts:?}");
    controller.configure(&service(&[(0, 100)], ""))?;
    controller.done(&["reload"])?;
    let counts = client::requests(&lab.client, (VIP4, 8000).into(), 40, 8)?;
    ensure!(counts.failed == 0 && counts.of("b0") == 40, "{counts:?}");
    controller.done(&["drain", "web/b0", "--accept", "BAL021", "--reason", "nobody is to be left"])?;
    let before = controller.status()?.dropped.get("no_backend").copied().unwrap_or(0);
    let counts = client::requests(&lab.client, (VIP4, 8000).into(), 3, 3)?;
    ensure!(counts.failed == 3, "{counts:?}");
    ensure!(controller.status()?.dropped.get("no_backend").copied().unwrap_or(0) >= before + 3);
    controller.done(&["undrain", "web/b0"])?;
    ensure!(client::requests(&lab.client, (VIP4, 8000).into(), 10, 4)?.failed == 0);
    Ok(())
}
