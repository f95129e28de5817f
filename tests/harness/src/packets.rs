//! Random packets for a [`World`](crate::world): more often than not for one of its services, whole or broken, tagged,
//! fragmented, with options and extension headers, and ICMP about all of it.

use balancer_common::layout::forward;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};

use crate::world::{
    BACKENDS, FIRST_BACKEND, LISTED, QUIC_CONFIG, SCTP, SERVER_ID, Spec, Special, TCP, VIP, WIDE_VIP, address,
    in_prefix,
};

const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// A packet as it is put together.
struct Parts {
    family: u8,
    protocol: u8,
    source: [u8; 16],
    destination: [u8; 16],
    payload: Vec<u8>,
}

fn bytes(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.chunks_exact_mut(4).zip(words).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_ne_bytes()));
    bytes
}

/// A client: few enough for flows to come again.
fn client(rng: &mut StdRng, family: u8) -> ([u8; 16], u16) {
    let mut address = [0; 16];
    let listed = rng.random_ratio(1, 4);
    let four = if listed { [LISTED[0], LISTED[1], rng.random(), 1] } else { [10, 1, rng.random(), 1] };
    if family == 4 {
        address[..4].copy_from_slice(&four);
    } else {
        address[..2].copy_from_slice(&[0xfd, four[0]]);
        address[2..5].copy_from_slice(&[four[1], four[2] & 0x80, four[2]]);
        address[15] = 1;
    }
    (address, 40_000 + rng.random_range(0..64))
}

/// The address and port of a service as a client sees them.
fn service_at(rng: &mut StdRng, spec: &Spec) -> ([u8; 16], u16) {
    match spec.special {
        Special::Range(more) => (bytes(address(spec.family, WIDE_VIP)), spec.port + rng.random_range(0..=more)),
        Special::AllPorts => (bytes(address(spec.family, WIDE_VIP)), rng.random()),
        Special::Prefix => (bytes(in_prefix(spec.family, rng.random())), spec.port),
        Special::PrefixAll => (bytes(in_prefix(spec.family, rng.random())), rng.random()),
        _ => (bytes(address(spec.family, VIP)), spec.port),
    }
}

/// A transport header and what follows it.
fn transport(rng: &mut StdRng, spec: &Spec, from: u16, to: u16) -> Vec<u8> {
    let size = if rng.random_ratio(1, 20) { rng.random_range(1300..1480) } else { rng.random_range(0..64) };
    let mut all = [from.to_be_bytes(), to.to_be_bytes()].concat();
    match spec.protocol {
        TCP => {
            let flags = *[0x02u8, 0x02, 0x10, 0x10, 0x12, 0x18, 0x04].choose(rng).unwrap_or(&0x10);
            let options = tcp_options(rng);
            all.extend(rng.random::<[u8; 8]>());
            all.extend([((20 + options.len()) as u8) << 2, flags]);
            all.extend(rng.random::<[u8; 6]>());
            all.extend(options);
        }
        SCTP => {
            all.extend(rng.random::<[u8; 8]>());
            all.extend([*[1u8, 0, 3].choose(rng).unwrap_or(&0), 0, 0, 4]);
        }
        _ => {
            all.extend(((size + 8) as u16).to_be_bytes());
            all.extend(if rng.random_ratio(1, 4) { [0, 0] } else { rng.random() });
        }
    }
    if spec.special == Special::Quic {
        let known = rng.random_range(0..BACKENDS + 2);
        let config = if rng.random_ratio(1, 4) { rng.random_range(0..8) } else { QUIC_CONFIG };
        all.extend([if rng.random_ratio(1, 4) { 0xc0 } else { 0x40 }, config << 5, SERVER_ID[0], SERVER_ID[1], known]);
    }
    let mut payload = vec![0; size];
    rng.fill_bytes(&mut payload);
    all.extend(payload);
    all
}

fn tcp_options(rng: &mut StdRng) -> Vec<u8> {
    let size = rng.random_range(500..1600u16).to_be_bytes();
    let mut options = match rng.random_range(0..6) {
        0 => vec![2, 4, size[0], size[1]],
        1 => vec![1, 2, 4, size[0], size[1]],
        2 => vec![4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, size[0], size[1]],
        3 => (0..rng.random_range(0..40)).map(|_| *[0u8, 1, 2, 3, 4, 8].choose(rng).unwrap_or(&1)).collect(),
        _ => Vec::new(),
    };
    options.resize(options.len().next_multiple_of(4).min(40), 1);
    options
}

/// A frame for the services of `specs`.
pub fn generate(rng: &mut StdRng, specs: &[Spec]) -> Vec<u8> {
    let spec = *specs.choose(rng).unwrap_or(&specs[0]);
    let (client_address, client_port) = client(rng, spec.family);
    let (vip, port) = service_at(rng, &spec);
    let mut parts = Parts {
        family: spec.family,
        protocol: spec.protocol,
        source: client_address,
        destination: vip,
        payload: Vec::new(),
    };
    match rng.random_range(0..20) {
        0 => parts = error(rng, &spec, (client_address, client_port), (vip, port)),
        1 => echo(rng, &mut parts),
        // For nobody.
        2 => {
            parts.destination = bytes(address(spec.family, 200));
            parts.payload = transport(rng, &spec, client_port, port);
        }
        // A reply of a backend.
        3 | 4 if spec.mode == forward::NAT => {
            parts.source = bytes(address(spec.family, FIRST_BACKEND + rng.random_range(0..BACKENDS)));
            parts.destination = client_address;
            parts.payload = transport(rng, &spec, 20_000 + spec.port, client_port);
        }
        // A port on which nothing is.
        5 => {
            let nobodys = rng.random();
            parts.payload = transport(rng, &spec, client_port, nobodys);
        }
        _ => parts.payload = transport(rng, &spec, client_port, port),
    }
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    tags(rng, &mut frame);
    frame.extend(if parts.family == 4 { ipv4(rng, &parts) } else { ipv6(rng, &parts) });
    mutate(rng, &mut frame);
    frame
}

fn tags(rng: &mut StdRng, frame: &mut Vec<u8>) {
    if rng.random_ratio(1, 10) {
        if rng.random_ratio(1, 2) {
            frame.extend([0x88, 0xa8, 0, 7]);
        }
        frame.extend([0x81, 0, rng.random(), rng.random()]);
        if rng.random_ratio(1, 8) {
            frame.extend([0x81, 0, 0, 9]);
        }
    }
}

fn echo(rng: &mut StdRng, parts: &mut Parts) {
    parts.protocol = if parts.family == 4 { ICMP } else { ICMP6 };
    let request = if parts.family == 4 { 8 } else { 128 };
    parts.payload = vec![if rng.random_ratio(1, 5) { rng.random() } else { request }, 0];
    parts.payload.extend(rng.random::<[u8; 30]>());
}

/// An ICMP error about a packet of a flow, in either direction, with as little quoted as there may be.
fn error(rng: &mut StdRng, spec: &Spec, client: ([u8; 16], u16), service: ([u8; 16], u16)) -> Parts {
    let from_backend_side = spec.mode == forward::NAT && rng.random_ratio(1, 3);
    let router = bytes(address(spec.family, 250));
    let quoted = if from_backend_side {
        let backend = bytes(address(spec.family, FIRST_BACKEND));
        (client, (backend, 20_000 + spec.port))
    } else {
        (service, client)
    };
    let ((from, from_port), (to, to_port)) = quoted;
    let mut quoted_parts = Parts {
        family: spec.family,
        protocol: spec.protocol,
        source: from,
        destination: to,
        payload: transport(rng, spec, from_port, to_port),
    };
    if rng.random_ratio(1, 6) {
        quoted_parts.protocol = *[4u8, 41, 1, 58].choose(rng).unwrap_or(&4);
    }
    let cut = if rng.random_ratio(1, 2) { 8 } else { rng.random_range(0..40) };
    quoted_parts.payload.truncate(cut);
    let (kinds, protocol): (&[u8], u8) =
        if spec.family == 4 { (&[3, 3, 11, 12, 5], ICMP) } else { (&[1, 2, 2, 3, 4, 135], ICMP6) };
    let kind = *kinds.choose(rng).unwrap_or(&3);
    let mut payload = vec![kind, rng.random_range(0..6), rng.random(), rng.random(), 0, 0];
    payload.extend(rng.random_range(500..1500u16).to_be_bytes());
    let inner = if spec.family == 4 { ipv4(rng, &quoted_parts) } else { ipv6(rng, &quoted_parts) };
    // Without the type that the frame has before it.
    payload.extend(&inner[2..]);
    let destination = if from_backend_side { client.0 } else { service.0 };
    Parts { family: spec.family, protocol, source: router, destination, payload }
}

/// Type, header and payload.
fn ipv4(rng: &mut StdRng, parts: &Parts) -> Vec<u8> {
    let options = if rng.random_ratio(1, 12) { rng.random_range(1..11usize) } else { 0 };
    let header = 20 + options * 4;
    let length = (header + parts.payload.len()) as u16;
    let fragment: u16 = match rng.random_range(0..24) {
        // The first, a later and the last of one packet.
        0 => 0x2000,
        1 => 0x2000 | rng.random_range(1..100),
        2 => rng.random_range(1..100),
        3 => rng.random(),
        _ => *[0, 0x4000].choose(rng).unwrap_or(&0),
    };
    let ttl = if rng.random_ratio(1, 30) { rng.random_range(0..3) } else { 64 };
    let mut ip = vec![0x45 + options as u8, rng.random()];
    ip.extend(length.to_be_bytes());
    ip.extend([0, rng.random_range(0..16)]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([ttl, parts.protocol, 0, 0]);
    let odd = rng.random_ratio(1, 60);
    ip.extend(if odd {
        *[[127, 0, 0, 1], [0, 1, 2, 3], [224, 0, 0, 1]].choose(rng).unwrap_or(&[0; 4])
    } else {
        [parts.source[0], parts.source[1], parts.source[2], parts.source[3]]
    });
    ip.extend(&parts.destination[..4]);
    ip.extend(vec![1; options * 4]);
    let sum: u32 = ip.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    if !rng.random_ratio(1, 60) {
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    [&[0x08, 0x00][..], &ip, &parts.payload].concat()
}

/// Type, headers and payload.
fn ipv6(rng: &mut StdRng, parts: &Parts) -> Vec<u8> {
    let mut headers: Vec<u8> = Vec::new();
    let mut chain = Vec::new();
    if rng.random_ratio(1, 8) {
        for _ in 0..rng.random_range(1..8) {
            chain.push(*[0u8, 60, 43, 51, 44].choose(rng).unwrap_or(&0));
        }
    } else if rng.random_ratio(1, 12) {
        chain.push(44);
    }
    for (place, kind) in chain.iter().enumerate() {
        let next = chain.get(place + 1).copied().unwrap_or(parts.protocol);
        match kind {
            44 => {
                let offset: u16 = *[1u16, 0, 8, 9, 800].choose(rng).unwrap_or(&0);
                headers.extend([next, 0]);
                headers.extend(offset.to_be_bytes());
                headers.extend([0, 0, 0, rng.random_range(0..16)]);
            }
            51 => headers.extend([next, 4].into_iter().chain([0; 22])),
            _ => {
                let units = rng.random_range(0..3u8);
                headers.extend([next, units, 0, u8::from(rng.random_ratio(1, 6))]);
                headers.extend(vec![0; 4 + usize::from(units) * 8]);
            }
        }
    }
    let ttl = if rng.random_ratio(1, 30) { rng.random_range(0..3) } else { 64 };
    let length = (headers.len() + parts.payload.len()) as u16;
    let mut ip = vec![0x86, 0xdd, 0x60 | rng.random_range(0..16u8), rng.random(), rng.random(), rng.random()];
    ip.extend(length.to_be_bytes());
    ip.extend([chain.first().copied().unwrap_or(parts.protocol), ttl]);
    let odd = rng.random_ratio(1, 60);
    ip.extend(if odd { [[0xff; 16], [0; 16]].choose(rng).copied().unwrap_or_default() } else { parts.source });
    ip.extend(parts.destination);
    [ip, headers, parts.payload.clone()].concat()
}

/// Breaks some frames: flipped bytes, cut ends, wrong lengths.
pub fn mutate(rng: &mut StdRng, frame: &mut Vec<u8>) {
    if rng.random_ratio(1, 10) {
        for _ in 0..rng.random_range(1..4) {
            // Mostly in the headers, where it matters.
            let place = rng.random_range(0..frame.len().min(90));
            frame[place] ^= 1 << rng.random_range(0..8);
        }
    }
    if rng.random_ratio(1, 12) {
        // The kernel wants a whole Ethernet header.
        let length = rng.random_range(14..frame.len());
        frame.truncate(length);
    }
    if rng.random_ratio(1, 10) {
        frame.extend(vec![0; rng.random_range(1..30)]);
    }
}
