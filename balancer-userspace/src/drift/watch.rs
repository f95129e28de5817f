//! Counts of slot groups over time, and windows of them that are as long as the rate of new flows asks for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use balancer_common::slot::{BackendIndex, GROUPS, GroupCounts};

use super::skew::{Finding, Sample, flows_to_show, judge};

/// How far back windows reach.
const LONGEST: Duration = Duration::from_secs(3600);
/// Each window is about so much longer than the next shorter one.
const RATIO: f64 = 1.25;
/// A finding ends where fresh flows, this many times as many as would show it, show less than half of it.
const ENOUGH: f64 = 2.0;

/// Counts by index of the backend at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub at: Instant,
    pub groups: Vec<GroupCounts>,
}

/// Snapshots, oldest first: dense in the near past, sparse in the far.
#[derive(Debug, Default)]
pub struct Recorder {
    snapshots: Vec<Snapshot>,
}

impl Recorder {
    pub fn note(&mut self, snapshot: Snapshot) {
        let now = snapshot.at;
        let age = |snapshot: &Snapshot| now.duration_since(snapshot.at).as_secs_f64();
        self.snapshots.retain(|snapshot| now.duration_since(snapshot.at) <= LONGEST);
        self.snapshots.push(snapshot);
        // One goes where its neighbours are close enough without it.
        let mut place = 1;
        while place + 1 < self.snapshots.len() {
            let (older, younger) = (age(&self.snapshots[place - 1]), age(&self.snapshots[place + 1]));
            if older < younger * RATIO {
                self.snapshots.remove(place);
            } else {
                place += 1;
            }
        }
    }

    pub fn latest(&self) -> Option<&Snapshot> {
        self.snapshots.last()
    }
}

/// The slots of a backend by group.
pub type SlotGroups = BTreeMap<BackendIndex, [u32; GROUPS]>;

/// A backend that gets more or less than planned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skewed {
    pub finding: Finding,
    /// The window that shows it best.
    pub window: Duration,
    seen: Instant,
}

/// What is watched of one service.
#[derive(Debug, Clone)]
pub struct Watch {
    /// When its table last changed.
    changed: Instant,
    /// Flows from before do not count: the table was another, or what they showed is over.
    start: Instant,
    skewed: BTreeMap<BackendIndex, Skewed>,
    rate: f64,
    /// How many times as much as with independent flows the counts vary.
    dispersion: f64,
}

impl Watch {
    pub fn new(start: Instant) -> Self {
        Self { changed: start, start, skewed: BTreeMap::new(), rate: 0.0, dispersion: 1.0 }
    }

    /// The same service after its table changed.
    pub fn after_change(&self, changed: Instant) -> Self {
        Self { rate: self.rate, dispersion: self.dispersion, ..Self::new(changed) }
    }

    /// Flows up to now do not count: some of them stayed where they were before.
    pub fn hold(&mut self, now: Instant) {
        self.start = now;
        self.skewed.clear();
    }

    pub fn changed(&self) -> Instant {
        self.changed
    }

    pub fn skewed(&self) -> &BTreeMap<BackendIndex, Skewed> {
        &self.skewed
    }

    /// New flows a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// How long it takes at the present rate, and with clients such as the present ones, to find that a backend with this
    /// share gets `effect` more.
    pub fn time_to_show(&self, share: f64, effect: f64) -> Option<Duration> {
        let seconds = flows_to_show(share, effect) * self.dispersion.max(1.0) / self.rate;
        (seconds.is_finite() && seconds < 1e9).then(|| Duration::from_secs_f64(seconds))
    }

    /// Judges every window of the recorder that began after the table's last change.
    pub fn look(&mut self, recorder: &Recorder, slots: &SlotGroups) {
        let Some(now) = recorder.latest() else { return };
        // Nothing begins here: nothing is to be judged, and rates are 0.
        let oldest = recorder.snapshots.iter().find(|snapshot| snapshot.at >= self.start);
        let none = |then: &Snapshot, index: &BackendIndex| {
            then.groups.get(usize::from(*index)) == now.groups.get(usize::from(*index))
        };
        if self.skewed.is_empty() && oldest.is_some_and(|then| slots.keys().all(|index| none(then, index))) {
            self.rate = 0.0;
            return;
        }
        let older = recorder.snapshots.iter().rev().skip(1).take_while(|snapshot| snapshot.at >= self.start);
        // The shortest comes first.
        let windows: Vec<Window> = older.filter_map(|then| Window::between(then, now, slots)).collect();
        if let Some(window) = windows.iter().find(|window| window.flows >= 1000).or(windows.last()) {
            self.rate = window.flows as f64 / window.length.as_secs_f64().max(0.001);
            self.dispersion = window.dispersion();
        }
        for window in &windows {
            for (index, finding) in window.judged() {
                let better = |known: &Skewed| known.seen < now.at || known.finding.score.abs() < finding.score.abs();
                if finding.skewed && self.skewed.get(&index).is_none_or(better) {
                    self.skewed.insert(index, Skewed { finding, window: window.length, seen: now.at });
                }
            }
        }
        let over: Vec<BackendIndex> = self
            .skewed
            .iter()
            .filter(|(index, known)| is_over(**index, known, &windows, now.at))
            .map(|(i, _)| *i)
            .collect();
        for index in over {
            self.skewed.remove(&index);
            // What is over must not be found again in a window that still reaches back to it.
            self.start = now.at;
        }
    }
}

/// Whether what was found of a backend is not so any longer.
fn is_over(index: BackendIndex, known: &Skewed, windows: &[Window], now: Instant) -> bool {
    let wanted = flows_to_show(known.finding.planned, known.finding.effect) * ENOUGH;
    let Some(window) = windows.iter().find(|window| window.flows as f64 >= wanted) else {
        return now.duration_since(known.seen) > LONGEST;
    };
    let finding = window.judged().find(|(there, _)| *there == index).map(|(_, finding)| finding);
    finding.is_none_or(|finding| !finding.skewed && finding.effect.abs() < known.finding.effect.abs() / 2.0)
}

/// New flows of a service between two moments.
struct Window {
    length: Duration,
    flows: u64,
    indices: Vec<BackendIndex>,
    samples: Vec<Sample>,
    findings: Vec<Finding>,
}

impl Window {
    /// `None` where there were no flows.
    fn between(then: &Snapshot, now: &Snapshot, slots: &SlotGroups) -> Option<Self> {
        let counts = |snapshot: &Snapshot, index: BackendIndex| {
            snapshot.groups.get(usize::from(index)).copied().unwrap_or([0; GROUPS])
        };
        let mut flows = 0;
        let samples: Vec<Sample> = slots
            .iter()
            .map(|(index, slots)| {
                let (before, after) = (counts(then, *index), counts(now, *index));
                let sample = Sample {
                    slots: *slots,
                    flows: std::array::from_fn(|group| after[group].wrapping_sub(before[group])),
                };
                flows += sample.flows.iter().map(|n| u64::from(*n)).sum::<u64>();
                sample
            })
            .collect();
        (flows > 0).then(|| {
            let length = now.at.duration_since(then.at);
            let findings = judge(&samples, length);
            let indices = slots.keys().copied().collect();
            Self { length, flows, indices, samples, findings }
        })
    }

    fn judged(&self) -> impl Iterator<Item = (BackendIndex, Finding)> {
        self.indices.iter().copied().zip(self.findings.iter().copied())
    }

    /// Variance of the groups' counts over what it is for independent flows, where it equals their mean.
    fn dispersion(&self) -> f64 {
        let (mut squares, mut groups, mut rates) = (0.0, 0u32, 0u32);
        for sample in &self.samples {
            let slots: f64 = sample.slots.iter().map(|n| f64::from(*n)).sum();
            let flows: f64 = sample.flows.iter().map(|n| f64::from(*n)).sum();
            if flows == 0.0 || slots == 0.0 {
                continue;
            }
            rates += 1;
            for (slots_of_group, flows_of_group) in sample.slots.iter().zip(&sample.flows).filter(|(n, _)| **n > 0) {
                let expected = flows / slots * f64::from(*slots_of_group);
                squares += (f64::from(*flows_of_group) - expected).powi(2) / expected;
                groups += 1;
            }
        }
        if groups > rates { squares / f64::from(groups - rates) } else { 1.0 }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
