//! The loaded program, run in the kernel by BPF_PROG_TEST_RUN, against the model on the same packets: the same verdict and
//! the same bytes, for whole packets, for broken ones and for cut ones.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use balancer::dataplane::{DataPlane, Pins, Told, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::datapath::process;
use balancer_common::frame::VecFrame;
use balancer_common::layout::forward;
use balancer_common::verdict::{Reason, Verdict};
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder};
use harness::errors::{too_big, too_big_to};
use harness::frames::{CORPUS, check_input, frames};
use harness::model::Model;
use harness::netns::unique;
use harness::packets::generate;
use harness::world::{LISTED, Spec, Special, TCP, VIP, World, address};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Two million, or as many as `MODEL_PACKETS` says.
const PACKETS: usize = 2_000_000;
/// XDP's answers (linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// The same maps twice: in the kernel and in the model. Pins go with the value.
struct Pair {
    plane: DataPlane,
    model: Model,
    specs: Vec<Spec>,
    pin_dir: PathBuf,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = detach(&self.pin_dir);
    }
}

impl Pair {
    /// What both make of a frame.
    fn agreed(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Verdict> {
        let mut modelled = VecFrame(frame.to_vec());
        self.model.now_ns.set(nanoseconds());
        let verdict = process(&mut modelled, &self.model);
        let (answer, length) = run_in_kernel(&mut self.plane, frame, out)?;
        let about = || format!("{verdict:?}, seen {:?}", self.model.seen.get());
        ensure!(answer == expected(verdict), "{}, the kernel {answer}\n{frame:02x?}", about());
        // Of a dropped packet nobody sees what was written to it.
        ensure!(
            answer == XDP_DROP || out[..length] == modelled.0,
            "{}\nin    {frame:02x?}\nmodel {:02x?}\nkernel {:02x?}",
            about(),
            modelled.0,
            &out[..length]
        );
        Ok(verdict)
    }
}

fn pair() -> Result<Pair> {
    let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("model"));
    let limits = Limits { services: 128, backends: 1000, table_size: 101, fragments: 65_536, ..Limits::DEFAULT };
    let (plane, _logger) = DataPlane::load(Pins::create(&pin_dir)?, limits, DatapathLog::Off)?;
    let World { specs, mut model, changes } = World::new()?;
    model.identity = plane.identity_keys();
    let mut pair = Pair { plane, model, specs, pin_dir };
    pair.plane.apply(changes)?;
    Ok(pair)
}

fn run_in_kernel(plane: &mut DataPlane, frame: &[u8], out: &mut [u8]) -> Result<(u32, usize)> {
    let options = TestRunOptions { data_in: Some(frame), data_out: Some(out), ..TestRunOptions::default() };
    let result = plane.xdp()?.test_run(options).context("BPF_PROG_TEST_RUN")?;
    Ok((result.return_value, result.data_size_out as usize))
}

fn expected(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass => XDP_PASS,
        Verdict::Forward { .. } => XDP_REDIRECT,
        Verdict::Answer => XDP_TX,
        Verdict::Drop(_) => XDP_DROP,
    }
}

#[test]
fn program_and_model_agree_on_every_packet() -> Result<()> {
    let packets = std::env::var("MODEL_PACKETS").ok().and_then(|n| n.parse().ok()).unwrap_or(PACKETS);
    let mut pair = pair()?;
    let mut rng = StdRng::seed_from_u64(0x5eed);
    let mut out = vec![0; 4096];
    let mut drops = vec![0u64; Reason::ALL.len()];
    let (mut passed, mut forwarded, mut answered) = (0, 0, 0);
    for number in 0..packets {
        let frame = generate(&mut rng, &pair.specs);
        let verdict = pair.agreed(&frame, &mut out).with_context(|| format!("packet {number}"))?;
        match verdict {
            Verdict::Pass => passed += 1,
            Verdict::Forward { .. } => forwarded += 1,
            Verdict::Answer => answered += 1,
            Verdict::Drop(reason) => drops[reason as usize] += 1,
        }
    }
    println!(
        "{passed} passed, {forwarded} forwarded, {answered} answered, dropped {:?}",
        Reason::ALL.iter().zip(&drops).collect::<Vec<_>>()
    );
    // A comparison of what hardly occurs would show little.
    ensure!(passed > packets / 20 && forwarded > packets / 4 && answered > packets / 200, "{passed} {forwarded}");
    for (reason, count) in Reason::ALL.iter().zip(&drops) {
        ensure!(*count > 20 || *reason == Reason::NoHeadroom, "{reason:?} occurred {count} times");
    }
    same_counters(&pair, &drops)
}

fn nanoseconds() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).map(std::time::Duration::from);
    time.map_or(0, |time| time.as_nanos() as u64)
}

fn same_counters(pair: &Pair, drops: &[u64]) -> Result<()> {
    ensure!(pair.plane.drops()? == drops, "the kernel counted {:?}, the model {drops:?}", pair.plane.drops()?);
    let highest = pair.model.backends.keys().max().copied().unwrap_or(0);
    let counted = pair.plane.counters(highest)?;
    for (index, wanted) in pair.model.counters.borrow().iter() {
        let counters = counted[usize::from(*index)];
        ensure!((counters.packets, counters.bytes) == (wanted.packets, wanted.bytes), "backend {index}");
        ensure!(wanted.new_flows == 0 || counters.new_flows == wanted.new_flows, "new flows of backend {index}");
    }
    let grouped = pair.plane.groups(highest)?;
    for (index, wanted) in pair.model.groups.borrow().iter() {
        ensure!(grouped[usize::from(*index)] == *wanted, "new flows by group of backend {index}");
    }
    let tallied = pair.plane.service_counters(pair.specs.len() as u32)?;
    for (number, wanted) in pair.model.tallies.borrow().iter() {
        let (spec, tallied) = (pair.specs[usize::from(*number)], tallied[usize::from(*number)]);
        ensure!(tallied == *wanted, "{spec:?}: {tallied:?} in the kernel, {wanted:?} in the model");
    }
    for (number, size) in &pair.model.flow_tables {
        let flows = pair.plane.flows(*number)?;
        let modelled = pair.model.flows.borrow();
        ensure!(flows.len() <= *size, "{} flows in a table of {size}", flows.len());
        for (key, flow) in flows {
            let wanted = modelled.get(&(*number, key)).context("a flow that the model does not know")?;
            ensure!(
                (flow.backend(), flow.slot(), flow.is_confirmed())
                    == (wanted.backend(), wanted.slot(), wanted.is_confirmed()),
                "flow {key:016x} of {number}: {flow:?} in the kernel, {wanted:?} in the model"
            );
        }
    }
    Ok(())
}

/// What the fuzzer found worth keeping: by itself, and in the kernel against the model.
#[test]
fn program_and_model_agree_on_the_corpus() -> Result<()> {
    let mut pair = pair()?;
    let mut out = vec![0; 4096];
    let inputs = xtask::corpus::unpack(CORPUS);
    ensure!(inputs.len() > 500, "only {} inputs", inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        check_input(input);
        // The kernel asks for a whole Ethernet header.
        for frame in frames(input).into_iter().filter(|frame| frame.len() >= 14) {
            pair.agreed(frame, &mut out).with_context(|| format!("input {number}"))?;
        }
    }
    Ok(())
}

/// An error that quotes an IP header alone says no ports, whatever Ethernet padded it with.
#[test]
fn padding_is_not_read_as_quoted_ports() -> Result<()> {
    let mut pair = pair()?;
    let spec = *pair.specs.iter().find(|spec| spec.family == 4 && spec.protocol == TCP).context("no TCP service")?;
    let [router, client] = [Ipv4Addr::new(10, 9, 9, 9), Ipv4Addr::new(10, 1, 1, 1)];
    let service = Ipv4Addr::from(address(4, VIP)[0].to_ne_bytes());
    let mut quoted = Ipv4Header::new(0, 64, IpNumber::TCP, service.octets(), client.octets())?;
    quoted.set_payload_len(20)?;
    let mut payload = quoted.to_bytes().to_vec();
    payload.extend([spec.port.to_be_bytes(), 40_000u16.to_be_bytes()].concat());
    payload.extend([0; 4]);
    let unreachable = |payload: &[u8], padding: &[u8]| -> Result<Vec<u8>> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
            .ipv4(router.octets(), service.octets(), 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host));
        let mut frame = Vec::new();
        builder.write(&mut frame, payload)?;
        frame.extend(padding);
        Ok(frame)
    };
    let mut out = vec![0; 4096];
    let whole = pair.agreed(&unreachable(&payload, &[])?, &mut out)?;
    ensure!(matches!(whole, Verdict::Forward { .. }), "{whole:?}");
    let padded = pair.agreed(&unreachable(&payload[..20], &payload[20..])?, &mut out)?;
    ensure!(padded == Verdict::Drop(Reason::Malformed), "{padded:?}");
    Ok(())
}

/// Path MTUs that the program told the controller.
fn told(events: &mut balancer::dataplane::Events) -> Vec<(IpAddr, u32)> {
    let mut all = Vec::new();
    while let Some(told) = events.take() {
        if let Told::PathMtu { address, mtu } = told {
            all.push((address, mtu));
        }
    }
    all
}

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// An error is believed where it quotes what was sent to a backend, in every mode with outer headers, and then only.
#[test]
fn only_errors_about_what_was_sent_are_believed() -> Result<()> {
    let mut pair = pair()?;
    let mut events = pair.plane.take_events().context("no events")?;
    let (mut out, mut rng) = (vec![0; 4096], StdRng::seed_from_u64(7));
    let specs: Vec<Spec> = pair.specs.clone();
    let mut sent = std::collections::BTreeSet::new();
    let encapsulating = |spec: &&Spec| spec.mode >= forward::IPIP4 && spec.special != Special::Vlan;
    let wanted = specs.iter().filter(encapsulating).count();
    while sent.len() < wanted {
        let frame = generate(&mut rng, &specs);
        let modelled = pair.agreed(&frame, &mut out)?;
        let Some(seen) = pair.model.seen.take() else { continue };
        let spec = specs[seen.service as usize % specs.len()];
        let tagged = out[12..14] != [8, 0] && out[12..14] != [0x86, 0xdd];
        let Verdict::Forward { .. } = modelled else { continue };
        let quoted_flow = (frame[12..14] == [8, 0] && frame[14] == 0x45 && matches!(frame[23], 6 | 17 | 132))
            || (frame[12..14] == [0x86, 0xdd] && matches!(frame[20], 6 | 17 | 132));
        if spec.mode < forward::IPIP4 || tagged || !quoted_flow || !sent.insert(seen.service) {
            continue;
        }
        told(&mut events);
        pair.model.learnt.take();
        let sent_frame = out[..600].to_vec();
        believed(&mut pair, &mut events, &sent_frame, &mut out).with_context(|| format!("{spec:?}"))?;
    }
    Ok(())
}

fn believed(pair: &mut Pair, events: &mut balancer::dataplane::Events, sent: &[u8], out: &mut [u8]) -> Result<()> {
    let four = sent[12..14] == [8, 0];
    let (source, destination) = if four { (26..30, 30..34) } else { (22..38, 38..54) };
    let address = match <[u8; 16]>::try_from(&sent[destination.clone()]) {
        Ok(six) => IpAddr::from(six),
        Err(_) => IpAddr::from(<[u8; 4]>::try_from(&sent[destination])?),
    };
    let error = too_big(MACS, sent, 1300);
    ensure!(pair.agreed(&error, out)? == Verdict::Pass, "an error is for the kernel too");
    ensure!(told(events) == [(address, 1300)], "what was sent is not believed: {sent:02x?}");
    ensure!(pair.model.learnt.take().len() == 1, "the model does not believe it");
    let ip = 14 + if four { 20 } else { 40 };
    let changed = |place: usize| {
        let mut quoted = sent[14..].to_vec();
        quoted[place - 14] ^= 0x40;
        quoted.truncate(400);
        let source = &quoted[source.start - 14..source.end - 14];
        (source.to_vec(), quoted)
    };
    // The prefix and the host bits of the outer source, the outer protocol, and in GUE its ports; the inner flow.
    let mut forged = vec![changed(source.start), changed(source.end - 1), changed(if four { 23 } else { 20 })];
    let gue = sent[if four { 23 } else { 20 }] == 17;
    if gue {
        forged.extend([changed(ip), changed(ip + 3)]);
    }
    let inner = ip + if gue { 8 + if sent[ip + 8] == 0 { 4 } else { 0 } } else { 0 };
    let inner_source = inner + if sent[inner] >> 4 == 4 { 15 } else { 23 };
    forged.push(changed(inner_source));
    for (to, quoted) in &forged {
        pair.agreed(&too_big_to(MACS, to, quoted, 700), out)?;
    }
    // Somebody else's address, and too little to tell.
    let whole = &sent[14..414];
    let other = if four { vec![10, 0, 0, 9] } else { vec![0xfd; 16] };
    pair.agreed(&too_big_to(MACS, &other, whole, 700), out)?;
    pair.agreed(&too_big_to(MACS, &sent[source], &whole[..ip - 14 + 8], 700), out)?;
    let (kernel, model) = (told(events), pair.model.learnt.take());
    ensure!(kernel.is_empty() && model.is_empty(), "forged errors are believed: {kernel:?}, {model:?}");
    Ok(())
}

#[test]
fn the_verifier_has_room_left() -> Result<()> {
    let mut pair = pair()?;
    let info = pair.plane.xdp()?.info()?;
    let verified = info.verified_instruction_count().context("the kernel does not say")?;
    // The verifier gives up at a million.
    println!("{verified} instructions were verified");
    ensure!(verified < 200_000, "{verified} instructions were verified");
    Ok(())
}

/// A message of words that are all 0 has a checksum of all ones: 0 would say that it is wrong.
#[test]
fn an_echo_of_zeros_gets_a_checksum_of_ones() -> Result<()> {
    let (mut pair, mut out) = (pair()?, vec![0; 4096]);
    let service = Ipv4Addr::from(address(4, VIP)[0].to_ne_bytes());
    let builder = PacketBuilder::ethernet2(MACS[1], MACS[0]).ipv4([10, 1, 1, 1], service.octets(), 64);
    let mut frame = Vec::new();
    let mut request = vec![8, 0, 0xf7, 0xff];
    request.extend([0; 28]);
    builder.write(&mut frame, IpNumber::ICMP, &request)?;
    ensure!(pair.agreed(&frame, &mut out)? == Verdict::Answer, "no answer");
    ensure!(out[34..38] == [0, 0, 0xff, 0xff], "{:02x?}", &out[34..38]);
    Ok(())
}

/// A packet that a backend sent to a client, in IPv6, with these extension headers before its transport header.
fn sent_by_service(spec: &Spec, first: u8, extensions: &[u8]) -> Vec<u8> {
    let bytes = |words: [u32; 4]| words.map(u32::to_ne_bytes).concat();
    let mut client = vec![0xfd, 9];
    client.extend([0; 14]);
    let payload = (extensions.len() as u16 + 8).to_be_bytes();
    let ports = [spec.port.to_be_bytes(), 40_000u16.to_be_bytes(), [0; 2], [0; 2]].concat();
    let head = [0x60, 0, 0, 0, payload[0], payload[1], first, 64];
    [&head[..], &bytes(address(6, VIP)), &client, extensions, &ports].concat()
}

fn too_big_about(quoted: &[u8]) -> Vec<u8> {
    too_big_to(MACS, &quoted[8..24], quoted, 1300)
}

/// Hosts that were told of a small path send whole packets with a fragment header (RFC 6946), and options before others.
#[test]
fn errors_that_quote_extension_headers_reach_the_backend() -> Result<()> {
    let (mut pair, mut out) = (pair()?, vec![0; 4096]);
    for mode in [forward::L2, forward::NAT, forward::IPIP6] {
        let plain =
            |spec: &&Spec| (spec.family, spec.protocol, spec.mode, spec.special) == (6, TCP, mode, Special::Nothing);
        let spec = *pair.specs.iter().find(plain).context("no such service")?;
        let fragment = |offset: u8, next| [next, 0, 0, offset, 0, 0, 0, 7];
        let options = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let cases: [(u8, Vec<u8>); 3] = [
            (44, fragment(0, TCP).to_vec()),
            (60, options(TCP).to_vec()),
            (0, [options(44), fragment(0, TCP)].concat()),
        ];
        for (first, extensions) in cases {
            let frame = too_big_about(&sent_by_service(&spec, first, &extensions));
            let verdict = pair.agreed(&frame, &mut out)?;
            ensure!(matches!(verdict, Verdict::Forward { .. }), "mode {mode}, {first}: {verdict:?}");
        }
        // A later fragment says no ports.
        let frame = too_big_about(&sent_by_service(&spec, 44, &fragment(8, TCP)));
        ensure!(pair.agreed(&frame, &mut out)? == Verdict::Pass, "a later fragment");
    }
    Ok(())
}

/// What a list denies is denied as the sender of an error too, while routers, which are in no list, may send.
#[test]
fn errors_from_denied_senders_are_refused() -> Result<()> {
    let (mut pair, mut out) = (pair()?, vec![0; 4096]);
    let denies = |spec: &&Spec| spec.family == 6 && spec.special == Special::Deny;
    let spec = *pair.specs.iter().find(denies).context("no list denies")?;
    let frame = too_big_about(&sent_by_service(&spec, spec.protocol, &[]));
    let verdict = pair.agreed(&frame, &mut out)?;
    ensure!(matches!(verdict, Verdict::Forward { .. }), "from a router: {verdict:?}");
    let mut denied = frame;
    denied[22..25].copy_from_slice(&[0xfd, LISTED[0], LISTED[1]]);
    let verdict = pair.agreed(&denied, &mut out)?;
    ensure!(verdict == Verdict::Drop(Reason::AclRefused), "from who is denied: {verdict:?}");
    Ok(())
}
