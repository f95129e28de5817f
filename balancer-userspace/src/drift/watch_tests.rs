use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::drift::testing::{Clients, Fleet};

const TICK: Duration = Duration::from_secs(1);

/// A service under traffic, looked at every second.
struct Run<'a> {
    fleet: &'a Fleet,
    slots: SlotGroups,
    counts: Vec<GroupCounts>,
    recorder: Recorder,
    watch: Watch,
    now: Instant,
    random: StdRng,
}

impl<'a> Run<'a> {
    fn new(fleet: &'a Fleet, seed: u64) -> Self {
        let samples = fleet.empty();
        let slots = samples.iter().enumerate().map(|(i, sample)| (i as BackendIndex + 1, sample.slots)).collect();
        let now = Instant::now();
        let counts = vec![[0; GROUPS]; samples.len() + 1];
        let random = StdRng::seed_from_u64(seed);
        let mut run = Self { fleet, slots, counts, recorder: Recorder::default(), watch: Watch::new(now), now, random };
        run.look();
        run
    }

    fn look(&mut self) {
        self.recorder.note(Snapshot { at: self.now, groups: self.counts.clone() });
        self.watch.look(&self.recorder, &self.slots);
    }

    /// A second of traffic, of which the first backend gets `more` times what it should.
    fn second(&mut self, clients: Clients, flows: usize, more: f64) {
        let mut samples = self.fleet.empty();
        self.fleet.add(&mut samples, clients, flows, &mut self.random);
        let own: u32 = samples[0].flows.iter().sum();
        let mut added = self.fleet.empty();
        let extra = (f64::from(own) * (more - 1.0) * (1.0 + f64::from(own) / flows as f64)).round() as usize;
        self.fleet.add_to_first(&mut added, extra, &mut self.random);
        for (place, (sample, added)) in samples.iter().zip(&added).enumerate() {
            for group in 0..GROUPS {
                self.counts[place + 1][group] += sample.flows[group] + added.flows[group];
            }
        }
        self.now += TICK;
        self.look();
    }
}

#[test]
fn ten_thousand_seconds_of_healthy_traffic_raise_nothing() {
    for (clients, seed) in [(Clients::Independent, 1), (Clients::Clustered(10), 2), (Clients::HeavyTailed(1.3), 3)] {
        let fleet = Fleet::of(&[10, 20, 40, 80, 200, 100]);
        let mut run = Run::new(&fleet, seed);
        for second in 0..10_000 {
            run.second(clients, 50, 1.0);
            assert!(run.watch.skewed().is_empty(), "{clients:?} after {second} s: {:?}", run.watch.skewed());
        }
    }
}

#[test]
fn more_traffic_than_planned_is_found_within_twice_the_theoretical_time() {
    let fleet = Fleet::of(&[100; 10]);
    let mut late = Vec::new();
    for (more, rate) in [(1.2, 1_000), (1.5, 200), (1.2, 5_000)] {
        for seed in 0..40 {
            let mut run = Run::new(&fleet, seed);
            (0..30 + seed).for_each(|_| run.second(Clients::Independent, rate, 1.0));
            let theory = run.watch.time_to_show(0.1, more - 1.0).expect("there is traffic").as_secs_f64();
            let wanted = flows_to_show(0.1, more - 1.0) / rate as f64;
            assert!((theory / wanted - 1.0).abs() < 0.35, "{theory} s, in theory {wanted} s");
            let mut seconds = 0;
            while !run.watch.skewed().contains_key(&1) {
                run.second(Clients::Independent, rate, more);
                seconds += 1;
            }
            // A second lies between two looks.
            if f64::from(seconds) > (2.0 * wanted).ceil() + 1.0 {
                late.push((more, rate, seed, seconds));
            }
            assert_eq!(run.watch.skewed().len(), 1, "only that one: {:?}", run.watch.skewed());
            // What shows first shows too much; more flows say how much it is.
            (0..(6.0 * wanted) as usize).for_each(|_| run.second(Clients::Independent, rate, more));
            let found = run.watch.skewed()[&1].finding;
            let really = (more - 1.0) * 1.1;
            assert!((found.effect / really - 1.0).abs() < 0.5, "{found:?}, really {really}");
        }
    }
    // Also the theory's own time is one in which some are missed.
    assert!(late.len() <= 4, "{} of 120: {late:?}", late.len());
}

#[test]
fn what_is_over_is_cleared_and_stays_so() {
    let fleet = Fleet::of(&[100; 4]);
    let mut run = Run::new(&fleet, 7);
    (0..60).for_each(|_| run.second(Clients::Independent, 2_000, 1.5));
    assert!(run.watch.skewed().contains_key(&1));
    let mut seconds = 0;
    while !run.watch.skewed().is_empty() {
        run.second(Clients::Independent, 2_000, 1.0);
        seconds += 1;
        assert!(seconds < 20, "still: {:?}", run.watch.skewed());
    }
    for _ in 0..300 {
        run.second(Clients::Independent, 2_000, 1.0);
        assert!(run.watch.skewed().is_empty(), "again: {:?}", run.watch.skewed());
    }
}

#[test]
fn snapshots_grow_sparse_with_age_and_their_number_stays_small() {
    let start = Instant::now();
    let mut recorder = Recorder::default();
    for second in 0..20_000 {
        recorder.note(Snapshot { at: start + TICK * second, groups: Vec::new() });
        assert!(recorder.snapshots.len() < 64, "{}", recorder.snapshots.len());
    }
    let ages: Vec<u64> =
        recorder.snapshots.iter().rev().map(|s| 19_999 - s.at.duration_since(start).as_secs()).collect();
    assert_eq!(ages[..4], [0, 1, 2, 3], "{ages:?}");
    assert!(ages.windows(2).skip(8).all(|pair| pair[1] as f64 <= pair[0] as f64 * 1.6), "{ages:?}");
    assert!(*ages.last().unwrap() > 2_400, "{ages:?}");
}

#[test]
fn a_change_of_the_table_starts_anew() {
    let fleet = Fleet::of(&[100; 4]);
    let mut run = Run::new(&fleet, 9);
    (0..60).for_each(|_| run.second(Clients::Independent, 2_000, 1.5));
    run.watch = run.watch.after_change(run.now);
    run.look();
    assert!(run.watch.skewed().is_empty());
}
