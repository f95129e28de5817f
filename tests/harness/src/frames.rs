//! What must hold for any frames at all, whatever they hold: the fuzz target and the test that replays its corpus.
//!
//! An input is a sequence of frames, each behind its length in two bytes (little endian); the last one may be cut off.

use std::cell::RefCell;

use balancer_common::datapath::process;
use balancer_common::frame::VecFrame;
use balancer_common::verdict::{Reason, Verdict};
use etherparse::err::Layer;
use etherparse::err::packet::SliceError;
use etherparse::{Ipv4Header, NetSlice, SlicedPacket, TransportSlice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::capture::inner_packet;
use crate::model::Model;
use crate::packets::generate;
use crate::world::{World, specs};

/// The packed corpus, see [`xtask::corpus`].
pub static CORPUS: &[u8] = include_bytes!("../../../fuzz/corpus.bin");

const IP: [Layer; 5] =
    [Layer::EtherPayload, Layer::Ipv4Header, Layer::Ipv4Packet, Layer::Ipv6Header, Layer::Ipv6Packet];
/// Bytes that an outer header, a GUE header and a tag can add; an answer to what is too big quotes less.
const MOST_ADDED: usize = 40 + 8 + 4 + 4 + 48;

/// The frames of an input.
pub fn frames(mut input: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (frame, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        frames.push(frame);
        input = rest;
    }
    frames
}

/// Frames as an input.
pub fn input_of<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let one = |frame: &'a [u8]| [&(frame.len() as u16).to_le_bytes(), frame].concat();
    frames.into_iter().flat_map(one).collect()
}

/// An input with one more generated frame, or with the IPv4 checksums of its frames put right: what a fuzzer that knows
/// nothing of packets would hardly find.
pub fn helped(input: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all: Vec<Vec<u8>> = frames(input).into_iter().map(<[u8]>::to_vec).collect();
    if rng.random_ratio(1, 2) {
        let place = rng.random_range(0..=all.len());
        all.insert(place, generate(&mut rng, &specs()));
    } else {
        all.iter_mut().for_each(|frame| right_checksum(frame));
    }
    input_of(all.iter().map(Vec::as_slice))
}

fn right_checksum(frame: &mut [u8]) {
    if let Ok((header, _)) = Ipv4Header::from_slice(frame.get(14..).unwrap_or_default()) {
        frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    }
}

thread_local! {
    /// Making a world takes longer than many frames.
    static MODELS: RefCell<Option<[Model; 2]>> = const { RefCell::new(None) };
}

/// Runs the frames of an input the short way and the thorough way.
///
/// # Panics
/// Where they differ, or something does not hold.
pub fn check_input(input: &[u8]) {
    MODELS.with_borrow_mut(|models| {
        let [short, thorough] = models.get_or_insert_with(|| {
            let model = || World::new().map(|world| world.model).unwrap_or_default();
            let models = [model(), model()];
            models[0].short.set(true);
            models
        });
        short.forget();
        thorough.forget();
        for frame in frames(input) {
            let (mut one, mut other) = (VecFrame(frame.to_vec()), VecFrame(frame.to_vec()));
            let verdict = process(&mut one, short);
            assert_eq!(verdict, process(&mut other, thorough), "short and thorough: {frame:02x?}");
            if !matches!(verdict, Verdict::Drop(_)) {
                assert_eq!(one.0, other.0, "short and thorough, {verdict:?}: {frame:02x?}");
            }
            check(frame, verdict, &one.0);
        }
        assert_eq!(*short.flows.borrow(), *thorough.flows.borrow(), "flows that are remembered");
        assert_eq!(*short.tallies.borrow(), *thorough.tallies.borrow(), "events that are counted");
    });
}

/// What must hold between a frame and what it became.
///
/// # Panics
/// Where it does not.
pub fn check(frame: &[u8], verdict: Verdict, out: &[u8]) {
    match verdict {
        Verdict::Pass => assert_eq!(out, frame, "a frame that is passed was changed"),
        Verdict::Drop(reason) => assert!(Reason::ALL.contains(&reason)),
        Verdict::Forward { .. } => {
            assert!(out.len() <= frame.len() + MOST_ADDED, "{} bytes of {}", out.len(), frame.len());
            sound(out);
            let (before, after) = (transport_sum(frame), transport_sum(out));
            assert!(before.is_none() || after.is_none() || before == after, "{before:?}, then {after:?}: {out:02x?}");
        }
        Verdict::Answer => {
            assert!(out[..6] == frame[6..12] && out[6..12] == frame[..6], "an answer to somebody else");
            sound(out);
            let sum = transport_sum(out);
            // An echo reply is as right or wrong as its request was, whose extension headers the parser may refuse.
            let extended = out[12..14] == [0x86, 0xdd] && out[20] != 58;
            let right = sum.is_some_and(|(protocol, sum)| matches!(protocol, 1 | 58) && sum == 0);
            assert!(right || extended || sum == transport_sum(frame), "the checksum of an answer, {sum:?}: {out:02x?}");
        }
    }
}

/// IP headers, the outer and the inner one, with the right checksum and no more bytes than there are.
fn sound(frame: &[u8]) {
    let packet = match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => packet,
        // What was wrong above the IP header stays wrong.
        Err(SliceError::Ipv6Exts(_) | SliceError::Tcp(_)) => return,
        Err(SliceError::Len(error)) if !IP.contains(&error.layer) => return,
        Err(error) => panic!("a frame that can't be read, {error}: {frame:02x?}"),
    };
    let Some(net) = &packet.net else { panic!("no IP packet: {frame:02x?}") };
    header(net, frame);
    if let Some(inner) = inner_packet(net)
        && let Ok(SlicedPacket { net: Some(net), .. }) = SlicedPacket::from_ip(inner)
    {
        header(&net, frame);
    }
}

fn header(net: &NetSlice<'_>, frame: &[u8]) {
    if let NetSlice::Ipv4(ip) = net {
        let header = ip.header();
        // Not from the parser's own header, which has no reserved bit.
        assert!(ones_sum(header.slice()).is_multiple_of(0xffff), "an IPv4 checksum: {frame:02x?}");
        assert!(header.ttl() > 0, "a TTL of 0: {frame:02x?}");
    }
}

/// The protocol above IP, and the sum of all that its checksum covers, itself included, modulo 0xffff: 0 where that is
/// right, and a rewritten packet keeps what it had. Nothing for fragments and for packets without a checksum.
fn transport_sum(frame: &[u8]) -> Option<(u8, u32)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (net, transport) = (packet.net?, packet.transport?);
    let payload = net.ip_payload_ref().filter(|payload| !payload.fragmented)?;
    let addresses = match &net {
        NetSlice::Ipv4(ip) => [ip.header().source(), ip.header().destination()].concat(),
        NetSlice::Ipv6(ip) => [ip.header().source(), ip.header().destination()].concat(),
        NetSlice::Arp(_) => return None,
    };
    let protocol = payload.ip_number.0;
    let pseudo = ones_sum(&addresses) + payload.payload.len() as u32 + u32::from(protocol);
    let sum = match transport {
        TransportSlice::Udp(udp) if udp.checksum() == 0 => return None,
        TransportSlice::Icmpv4(_) => ones_sum(payload.payload),
        _ => ones_sum(payload.payload) + pseudo,
    };
    Some((protocol, sum % 0xffff))
}

fn ones_sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}
