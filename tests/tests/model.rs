//! The loaded program, run in the kernel by BPF_PROG_TEST_RUN, against the model on the same packets: the same verdict and
//! the same bytes, for whole packets, for broken ones and for cut ones.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use balancer::dataplane::{Changes, DataPlane, NewTable, Pins, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::datapath::process;
use balancer_common::frame::VecFrame;
use balancer_common::hash::HashKeys;
use balancer_common::layout::{BackendEntry, ReplyEntry, ServiceEntry, ServiceKey, forward};
use balancer_common::slot::Slot;
use balancer_common::verdict::{Reason, Verdict};
use harness::model::Model;
use harness::netns::unique;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const PACKETS: usize = 1_000_000;
/// XDP's answers (linux/bpf.h).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;
/// The interface that every backend is behind: none of the test run's, so that all that is forwarded is redirected.
const IFINDEX: u32 = 77;

/// The same maps twice: in the kernel and in the model. Pins go with the value.
struct Pair {
    plane: DataPlane,
    model: Model,
    pin_dir: PathBuf,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = detach(&self.pin_dir);
    }
}

fn address(bytes: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    words
}

fn v4(last: u8) -> [u32; 4] {
    [u32::from_ne_bytes([192, 0, 2, last]), 0, 0, 0]
}

fn v6(last: u8) -> [u32; 4] {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1], bytes[15]) = (0x20, 0x01, last);
    address(bytes)
}

/// A service for each family, protocol and forwarding mode, one without backends, one whose slots name nobody.
fn maps() -> (Model, Changes) {
    let mut model = Model::default();
    let mut index = 1;
    let modes = [forward::L2, forward::NAT, forward::IPIP4, forward::IPIP6];
    for (place, (family, protocol, mode)) in itertools(&modes).into_iter().enumerate() {
        let place = place as u32;
        let vip = if family == 4 { v4(1) } else { v6(1) };
        let key = ServiceKey::new(vip, (1000 + place as u16).to_be(), protocol, family);
        let entry = ServiceEntry {
            keys: HashKeys { first: 7 * u64::from(place), second: 99 },
            table: place,
            table_size: 101,
            port_mask: if place.is_multiple_of(3) { 0 } else { u32::MAX },
            ..Default::default()
        };
        let mut owners = Vec::new();
        for last in 0..3 {
            let outer_family = if mode == forward::IPIP4 {
                4
            } else if mode == forward::IPIP6 {
                6
            } else {
                family
            };
            let backend = BackendEntry {
                mac: [2, 0, 0, 0, 1, last],
                source_mac: [2, 0, 0, 0, 0, 1],
                ifindex: IFINDEX,
                address: if outer_family == 4 { v4(100 + last) } else { v6(100 + last) },
                outer_source: if outer_family == 4 { [0x0000_12c6, 0, 0, 0] } else { v6(0) },
                outer_source_mask: 0xffff_0000,
                port: 8080u16.to_be(),
                mtu: 1500,
                forward: mode,
                ..Default::default()
            };
            if mode == forward::NAT {
                let from = ServiceKey::new(backend.address, backend.port, protocol, family);
                model.replies.insert(from, ReplyEntry { address: vip, port: key.port(), ..Default::default() });
            }
            model.backends.insert(index, backend);
            owners.push(index);
            index += 1;
        }
        // One service has no backend, one names an index that nobody has.
        let slots = (0..101).map(|slot| match place {
            14 => 0,
            15 => 900,
            _ => owners[slot % owners.len()],
        });
        model.tables.insert(place, slots.map(Slot::closed).collect());
        model.services.insert(key, entry);
        model.services.insert(key.address_only(), ServiceEntry::default());
    }
    let publish = |(place, slots): (&u32, &Vec<Slot>)| {
        let owners: Vec<u16> = slots.iter().map(|slot| slot.owner()).collect();
        (*place, NewTable::new(&owners).expect("a table"))
    };
    let changes = Changes {
        set_services: model.services.iter().map(|(k, v)| (*k, *v)).collect(),
        set_replies: model.replies.iter().map(|(k, v)| (*k, *v)).collect(),
        set_backends: model.backends.iter().map(|(k, v)| (*k, *v)).collect(),
        publish: model.tables.iter().map(publish).collect(),
        ..Default::default()
    };
    (model, changes)
}

/// Every combination of family, protocol and mode.
fn itertools(modes: &[u8]) -> Vec<(u8, u8, u8)> {
    let families = [4, 6].into_iter().flat_map(|family| [6, 17].map(|protocol| (family, protocol)));
    families.flat_map(|(family, protocol)| modes.iter().map(move |mode| (family, protocol, *mode))).collect()
}

fn pair() -> Result<Pair> {
    let pin_dir = PathBuf::from("/sys/fs/bpf").join(unique("model"));
    let limits = Limits { services: 64, backends: 1000, table_size: 101, ..Limits::DEFAULT };
    let (plane, _logger) = DataPlane::load(Pins::create(&pin_dir)?, limits, DatapathLog::Off)?;
    let (model, changes) = maps();
    let mut pair = Pair { plane, model, pin_dir };
    pair.plane.apply(changes)?;
    Ok(pair)
}

/// A frame that is, more often than not, for a service.
fn generate(rng: &mut StdRng) -> Vec<u8> {
    let family = *[4u8, 6].choose(rng).unwrap_or(&4);
    let protocol = *[6u8, 6, 6, 17, 17, 1, 58].choose(rng).unwrap_or(&6);
    let payload: usize = if rng.random_ratio(1, 20) { rng.random_range(1300..1480) } else { rng.random_range(0..64) };
    let from_backend = rng.random_ratio(1, 6);
    let client_port: u16 = rng.random();
    // Services are numbered by family, protocol and mode.
    let right = u16::from(family == 6) * 8 + u16::from(protocol == 17) * 4 + rng.random_range(0..4);
    let service_port = 1000 + if rng.random_ratio(1, 8) { rng.random_range(0..18) } else { right };
    let (source_port, port) = if from_backend { (8080, client_port) } else { (client_port, service_port) };
    let mut transport = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    if protocol == 6 {
        let flags = *[0x02u8, 0x10, 0x12, 0x18, 0x04].choose(rng).unwrap_or(&0x10);
        transport.extend(rng.random::<[u8; 8]>());
        transport.extend([0x50, flags]);
        transport.extend(rng.random::<[u8; 6]>());
    } else {
        transport.extend(((payload + 8) as u16).to_be_bytes());
        transport.extend(if rng.random_ratio(1, 4) { [0, 0] } else { rng.random() });
    }
    transport.extend((0..payload).map(|i| i as u8));

    let ttl = if rng.random_ratio(1, 30) { rng.random_range(0..3) } else { 64 };
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    let client: [u8; 4] = rng.random();
    let vip = if rng.random_ratio(1, 20) { 9 } else { 1 };
    let backend = 100 + rng.random_range(0..3u8);
    if family == 4 {
        let options = if rng.random_ratio(1, 12) { rng.random_range(1..11usize) } else { 0 };
        let length = (20 + options * 4 + transport.len()) as u16;
        frame.extend([0x08, 0x00, 0x45 + options as u8, rng.random()]);
        frame.extend(length.to_be_bytes());
        frame.extend(rng.random::<[u8; 2]>());
        let fragment: u16 = if rng.random_ratio(1, 20) { rng.random() } else { *[0, 0x4000].choose(rng).unwrap_or(&0) };
        frame.extend(fragment.to_be_bytes());
        frame.extend([ttl, protocol]);
        frame.extend(rng.random::<[u8; 2]>());
        let near = [192, 0, 2, if from_backend { backend } else { vip }];
        let (source, destination) = if from_backend { (near, client) } else { (client, near) };
        frame.extend(source);
        frame.extend(destination);
        frame.extend(vec![1; options * 4]);
    } else {
        frame.extend([0x86, 0xdd, 0x60 | rng.random_range(0..16u8), rng.random(), rng.random(), rng.random()]);
        frame.extend((transport.len() as u16).to_be_bytes());
        let next = if rng.random_ratio(1, 20) { *[0u8, 43, 44, 51, 60].choose(rng).unwrap_or(&0) } else { protocol };
        frame.extend([next, ttl]);
        let near = |last: u8| [&[0x20, 0x01][..], &[0; 13], &[last]].concat();
        let far = [&[0xfd; 12][..], &client].concat();
        let near = near(if from_backend { backend } else { vip });
        let (source, destination) = if from_backend { (near, far) } else { (far, near) };
        frame.extend(source);
        frame.extend(destination);
    }
    frame.extend(transport);
    mutate(rng, &mut frame);
    frame
}

/// Breaks some frames: flipped bytes, cut ends, wrong lengths.
fn mutate(rng: &mut StdRng, frame: &mut Vec<u8>) {
    if rng.random_ratio(1, 8) {
        for _ in 0..rng.random_range(1..4) {
            // Mostly in the headers, where it matters.
            let place = rng.random_range(0..frame.len().min(80));
            frame[place] ^= 1 << rng.random_range(0..8);
        }
    }
    if rng.random_ratio(1, 10) {
        // The kernel wants a whole Ethernet header.
        let length = rng.random_range(14..frame.len());
        frame.truncate(length);
    }
    if rng.random_ratio(1, 10) {
        frame.extend(vec![0; rng.random_range(1..30)]);
    }
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
        Verdict::Drop(_) => XDP_DROP,
    }
}

#[test]
fn program_and_model_agree_on_every_packet() -> Result<()> {
    let mut pair = pair()?;
    let mut rng = StdRng::seed_from_u64(0x5eed);
    let mut out = vec![0; 4096];
    let mut drops = vec![0u64; Reason::ALL.len()];
    let (mut passed, mut forwarded) = (0, 0);
    for number in 0..PACKETS {
        let frame = generate(&mut rng);
        let mut modelled = VecFrame(frame.clone());
        let verdict = process(&mut modelled, &pair.model);
        let (answer, length) = run_in_kernel(&mut pair.plane, &frame, &mut out)?;
        ensure!(answer == expected(verdict), "packet {number}: {verdict:?}, the kernel {answer}\n{frame:02x?}");
        ensure!(
            out[..length] == modelled.0,
            "packet {number}: {verdict:?}\nin    {frame:02x?}\nmodel {:02x?}\nkernel {:02x?}",
            modelled.0,
            &out[..length]
        );
        match verdict {
            Verdict::Pass => passed += 1,
            Verdict::Forward { .. } => forwarded += 1,
            Verdict::Drop(reason) => drops[reason as usize] += 1,
        }
    }
    println!(
        "{passed} passed, {forwarded} forwarded, dropped {:?}",
        Reason::ALL.iter().zip(&drops).collect::<Vec<_>>()
    );
    // A comparison of what hardly occurs would show little.
    ensure!(passed > PACKETS / 20 && forwarded > PACKETS / 5, "{passed} passed, {forwarded} forwarded");
    for (reason, count) in Reason::ALL.iter().zip(&drops) {
        ensure!(*count > 20 || *reason == Reason::NoHeadroom, "{reason:?} occurred {count} times");
    }
    ensure!(pair.plane.drops()? == drops, "the kernel counted {:?}, the model {drops:?}", pair.plane.drops()?);
    let highest = pair.model.backends.keys().max().copied().unwrap_or(0);
    let counted = pair.plane.counters(highest)?;
    for (index, wanted) in pair.model.counters.borrow().iter() {
        let counters = counted[usize::from(*index)];
        ensure!((counters.packets, counters.bytes) == (wanted.packets, wanted.bytes), "backend {index}");
        ensure!(wanted.new_flows == 0 || counters.new_flows == wanted.new_flows, "new flows of backend {index}");
    }
    Ok(())
}

#[test]
fn the_verifier_has_room_left() -> Result<()> {
    let mut pair = pair()?;
    let info = pair.plane.xdp()?.info()?;
    let verified = info.verified_instruction_count().context("the kernel does not say")?;
    // The verifier gives up at a million.
    ensure!(verified < 50_000, "{verified} instructions were verified");
    Ok(())
}
