//! The loaded program, run in the kernel by BPF_PROG_TEST_RUN, against the model on the same packets: the same verdict and
//! the same bytes, for whole packets, for broken ones and for cut ones.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use balancer::dataplane::{DataPlane, Pins, detach};
use balancer::model::{DatapathLog, Limits};
use balancer_common::datapath::process;
use balancer_common::frame::VecFrame;
use balancer_common::verdict::{Reason, Verdict};
use harness::model::Model;
use harness::netns::unique;
use harness::packets::generate;
use harness::world::{Spec, World};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Ten million where the time is there; `MODEL_PACKETS` says otherwise.
const PACKETS: usize = 10_000_000;
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
        let mut modelled = VecFrame(frame.clone());
        pair.model.now_ns.set(nanoseconds());
        let verdict = process(&mut modelled, &pair.model);
        let (answer, length) = run_in_kernel(&mut pair.plane, &frame, &mut out)?;
        let about = || format!("packet {number}: {verdict:?}, seen {:?}", pair.model.seen.get());
        ensure!(answer == expected(verdict), "{}, the kernel {answer}\n{frame:02x?}", about());
        // Of a dropped packet nobody sees what was written to it.
        ensure!(
            answer == XDP_DROP || out[..length] == modelled.0,
            "{}\nin    {frame:02x?}\nmodel {:02x?}\nkernel {:02x?}",
            about(),
            modelled.0,
            &out[..length]
        );
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

#[test]
fn the_verifier_has_room_left() -> Result<()> {
    let mut pair = pair()?;
    let info = pair.plane.xdp()?.info()?;
    let verified = info.verified_instruction_count().context("the kernel does not say")?;
    // The verifier gives up at a million.
    ensure!(verified < 200_000, "{verified} instructions were verified");
    Ok(())
}
