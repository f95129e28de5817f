//! The comparison that never stops: what the kernel holds, what is attached and what stands on disk against what was
//! planned, once an interval; what is counted against the table, every second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use balancer_common::slot::Slot;

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::desired::Desired;
use crate::controller::kernel::Kernel;
use crate::controller::kernel::KernelService;
use crate::controller::state::State;
use crate::controller::watch::Agreement;
use crate::controller::watch::counters;
use crate::controller::watch::name::UNKNOWN_SLOTS;
use crate::dataplane::{Attached, Difference, Expected, LinkState, SlotDifferences, TableCounts};
use crate::drift::{Recorder, Snapshot, Watch};
use crate::model::{Protocol, Service, ServiceName, Tracking};
use crate::moment::Moment;
use crate::spec;

/// Backends whose counts are read in a second; with more of them they are read less often.
const BACKENDS_A_SECOND: u64 = 4_000;
/// Longer lists of prefixes are compared only where somebody asks.
const PREFIXES_EACH_TIME: usize = 10_000;
/// Gaps of the kernel's maps that are told one by one.
const MOST_GAPS: usize = 50;

/// What the comparison knows.
pub(crate) struct Drift {
    next: Instant,
    /// As last found, what was put right included.
    pub(crate) gaps: Vec<Gap>,
    /// Tables by place that hold something else than was written, and what: nothing where none can be read.
    pub(crate) astray: BTreeMap<u32, Option<TableCounts>>,
    /// Why nothing could be compared.
    pub(crate) failed: Option<String>,
    pub(crate) counted: Counted,
    recorder: Recorder,
    next_count: Instant,
    pub(crate) watches: BTreeMap<ServiceName, Watch>,
    pub(crate) counters: counters::Counted,
}

/// For metrics; they only grow, but for the time and the duration of the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) cycles: u64,
    pub(crate) at: Option<Moment>,
    pub(crate) took: Duration,
    pub(crate) gaps: BTreeMap<Layer, u64>,
    pub(crate) healed: u64,
}

impl Default for Drift {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            next: now,
            gaps: Vec::new(),
            astray: BTreeMap::new(),
            failed: None,
            counted: Counted::default(),
            recorder: Recorder::default(),
            next_count: now,
            watches: BTreeMap::new(),
            counters: counters::Counted::default(),
        }
    }
}

impl Kernel {
    fn astray(&self, differences: &[Difference]) -> BTreeMap<u32, Option<TableCounts>> {
        let of_tables = differences.iter().filter_map(|difference| match difference {
            Difference::Table { place, .. } => Some((*place, None)),
            Difference::Slots { place } => {
                Some((*place, self.plane.slots_now(*place).map(|slots| TableCounts::of(&slots))))
            }
            _ => None,
        });
        // Of a table that is not there, its slots don't matter.
        let mut astray = BTreeMap::new();
        of_tables.for_each(|(place, counts)| {
            astray.entry(place).or_insert(counts);
        });
        astray
    }

    /// What a table at this place holds where no slot is open.
    fn planned_slots(&self, place: u32) -> Vec<Slot> {
        let programmed = self.programmed.values().find(|programmed| programmed.plan.entry.table == place);
        programmed.map_or_else(Vec::new, |programmed| programmed.plan.settled_slots())
    }
}

impl Agreement {
    /// Whether the last comparison found another program on the interface, or none, and nobody has put that right.
    pub(crate) fn lost(&self, interface: &str) -> Option<&Gap> {
        let mut all = self.drift.gaps.iter();
        all.find(|gap| gap.to == Layer::Program && gap.entry == interface && !gap.healed)
    }
}

impl Desired {
    fn compare_file(&self) -> Option<Gap> {
        let found = match spec::content(&self.path) {
            Ok(text) if text == self.text => return None,
            Ok(text) => first_difference(&self.text, &text),
            Err(why) => format!("it {why}"),
        };
        let entry = self.path.display().to_string();
        let expected = "what runs".to_owned();
        Some(Gap { entry, expected, ..gap(catalogue::FILE.name, Layer::Config, Layer::File, "", &found) })
    }
}

impl State {
    /// Compares what is due.
    pub(crate) fn watch_drift(&mut self) {
        let now = Instant::now();
        if now >= self.watch.drift.next_count {
            let backends = u64::from(self.kernel.pools.backends.highest());
            self.watch.drift.next_count = now + Duration::from_millis(900 + 1000 * (backends / BACKENDS_A_SECOND));
            self.watch_flows(now);
        }
        if self.kernel.out_of_step() {
            // What the maps hold is not known to be what was planned; the next step writes it.
            self.watch.drift.failed =
                Some("the kernel could not be written, and is tried again each second".to_owned());
        } else if now >= self.watch.drift.next {
            // Less half a tick, so that it is not the next but one that is taken.
            self.watch.drift.next = now + self.desired.config.node.verify.interval - Duration::from_millis(500);
            let heal = self.desired.config.node.verify.self_heal;
            self.watch.drift.failed = self.compare(heal, false).err().map(|error| format!("{error:#}"));
        }
    }

    /// What differs is found, named, put right where that is wanted, and kept for whoever asks.
    pub(crate) fn compare(&mut self, heal: bool, thoroughly: bool) -> Result<()> {
        let start = Instant::now();
        let mut gaps = Vec::new();
        let outcome = self.compare_kernel(heal, thoroughly, &mut gaps);
        let outcome = outcome.and(self.compare_counters(heal).map(|fallen| gaps.extend(fallen)));
        gaps.extend(self.compare_program());
        gaps.extend(self.desired.compare_file());
        for gap in &gaps {
            // What lasts is told once; its alarm lasts as well.
            if !self.watch.drift.gaps.contains(gap) {
                log::error!("{}: {gap}", gap.alarm);
            }
            *self.watch.drift.counted.gaps.entry(gap.to).or_default() += 1 + gap.others;
            self.watch.drift.counted.healed += u64::from(gap.healed) * (1 + gap.others);
        }
        self.watch.drift.gaps = gaps;
        self.watch.drift.counted.cycles += 1;
        self.watch.drift.counted.at = Some(Moment::now());
        self.watch.drift.counted.took = start.elapsed();
        outcome
    }

    /// What was found is in `gaps` also where it could not be put right.
    fn compare_kernel(&mut self, heal: bool, thoroughly: bool, gaps: &mut Vec<Gap>) -> Result<()> {
        let prefixes: usize = self.kernel.programmed.values().map(|p| p.plan.acl().count()).sum();
        let access = (thoroughly || prefixes <= PREFIXES_EACH_TIME).then(|| self.kernel.access());
        let rates = self.kernel.programmed.values().map(|p| (p.plan.entry.number, p.plan.rates)).collect();
        let expected = Expected { image: &self.kernel.image, rates, access, capturing: self.kernel.is_capturing() };
        let differences = self.kernel.plane.differences(&expected)?;
        self.watch.drift.astray = self.kernel.astray(&differences);
        if differences.is_empty() {
            return Ok(());
        }
        let of_slots = differences.iter().filter_map(|difference| match difference {
            Difference::Slots { place } => {
                Some((*place, self.kernel.plane.slot_differences(*place, || self.kernel.planned_slots(*place))))
            }
            _ => None,
        });
        let slots: SlotDifferences = of_slots.collect();
        *gaps = self.named(&differences, &slots);
        // Whoever overwrites a whole map is not told each of its entries.
        if gaps.len() > MOST_GAPS {
            let folded: u64 = gaps.drain(MOST_GAPS..).map(|gap| 1 + gap.others).sum();
            gaps[MOST_GAPS - 1].others += folded;
        }
        if heal {
            self.kernel.plane.restore(&differences, &expected, &slots)?;
            gaps.iter_mut().for_each(|gap| gap.healed = gap.entry != UNKNOWN_SLOTS);
            self.watch.drift.astray.clear();
        }
        Ok(())
    }

    /// What the kernel holds of a service's table: as written, or as the last comparison found it.
    pub(crate) fn kernel_counts<'a>(&'a self, programmed: &'a KernelService) -> Option<&'a TableCounts> {
        match self.watch.drift.astray.get(&programmed.plan.entry.table) {
            Some(found) => found.as_ref(),
            None => Some(&programmed.counts),
        }
    }

    fn compare_program(&mut self) -> Vec<Gap> {
        let attached: Vec<(String, Attached)> = self
            .kernel
            .interfaces
            .iter()
            .filter_map(|(name, state)| Some((name.clone(), *state.as_ref().ok()?)))
            .collect();
        let ours = format!("program {}", self.kernel.plane.program_id());
        let mut gaps = Vec::new();
        for (interface, mode) in attached {
            let (alarm, found) = match self.kernel.plane.link_state(&interface, mode) {
                LinkState::Ours => continue,
                LinkState::Replaced { found } => (&catalogue::REPLACED, format!("program {found}")),
                LinkState::Detached => (&catalogue::DETACHED, "no program of the balancer's".to_owned()),
            };
            let healed = self.desired.config.node.verify.self_heal_program && self.attach_again(&interface);
            gaps.push(Gap {
                entry: interface,
                healed,
                ..gap(alarm.name, Layer::Kernel, Layer::Program, &ours, &found)
            });
        }
        gaps
    }

    fn attach_again(&mut self, interface: &str) -> bool {
        let wanted =
            self.desired.config.interfaces.iter().find(|there| there.name == interface).map(|there| there.mode);
        let Some(wanted) = wanted else { return false };
        match self.kernel.plane.attach(interface, wanted) {
            Ok(mode) => {
                self.kernel.interfaces.insert(interface.to_owned(), Ok(mode));
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    /// Which comparison found that the file differs, where nothing refused the file.
    pub(crate) fn overlooked_file(&self) -> Option<u64> {
        let differs = self.watch.drift.gaps.iter().any(|gap| gap.to == Layer::File);
        (differs && self.desired.refused.is_none()).then_some(self.watch.drift.counted.cycles)
    }

    /// Counts new flows and judges them.
    fn watch_flows(&mut self, now: Instant) {
        let highest = crate::controller::kernel::allocate::index(self.kernel.pools.backends.highest());
        let groups = match self.kernel.plane.groups(highest) {
            Ok(groups) => groups,
            Err(error) => return log::error!("{error:#}"),
        };
        self.watch.drift.recorder.note(Snapshot { at: now, groups });
        let Drift { recorder, watches, .. } = &mut self.watch.drift;
        watches.retain(|name, _| self.kernel.programmed.contains_key(name));
        for service in self.desired.config.services.iter().filter(|service| is_judged(service)) {
            let Some(programmed) = self.kernel.programmed.get(&service.name) else { continue };
            let changed = programmed.changed.at;
            if watches.get(&service.name).is_none_or(|watch| watch.changed() != changed) {
                let watch = watches.get(&service.name).map_or_else(|| Watch::new(changed), |w| w.after_change(changed));
                watches.insert(service.name.clone(), watch);
            }
            if let Some(watch) = watches.get_mut(&service.name) {
                // UDP has no SYN: after a change, what pauses and goes on where it was looks new.
                if service.protocol == Protocol::Udp && programmed.counts.open > 0 {
                    watch.hold(now);
                }
                watch.look(recorder, &programmed.counts.groups);
            }
        }
    }

    /// Backends that get more or less than planned.
    pub(crate) fn skewed(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (name, watch) in &self.watch.drift.watches {
            for (index, skewed) in watch.skewed() {
                let (finding, window) = (skewed.finding, skewed.window.as_secs());
                let expected = format!("{:.2} % of new flows", finding.planned * 100.0);
                let found = format!(
                    "{:.2} % ({:+.0} % at its slots, over {window} s, score {:.1})",
                    finding.observed * 100.0,
                    finding.effect * 100.0,
                    finding.score
                );
                gaps.push(Gap {
                    service: Some(name.clone()),
                    backend: self.kernel.owner_name(name, *index),
                    entry: "new flows".to_owned(),
                    ..gap(catalogue::SKEWED.name, Layer::Kernel, Layer::Observed, &expected, &found)
                });
            }
        }
        gaps
    }
}

/// Whether new flows must follow the table. With full tracking of UDP, flows that pause begin anew where they were.
pub(crate) fn is_judged(service: &Service) -> bool {
    !(service.protocol == Protocol::Udp && service.connections.tracking == Tracking::Full)
}

pub(crate) fn gap(alarm: &str, from: Layer, to: Layer, expected: &str, found: &str) -> Gap {
    Gap {
        alarm: alarm.to_owned(),
        from,
        to,
        service: None,
        backend: None,
        entry: String::new(),
        expected: expected.to_owned(),
        found: found.to_owned(),
        others: 0,
        healed: false,
    }
}

/// The first line in which a file differs from what runs.
fn first_difference(runs: &str, file: &str) -> String {
    let mut number = 0;
    let (mut left, mut right) = (runs.lines(), file.lines());
    loop {
        number += 1;
        match (left.next(), right.next()) {
            (Some(a), Some(b)) if a == b => {}
            (_, Some(line)) => return format!("line {number}: {}", line.trim()),
            (Some(_), None) => return format!("it ends before line {number}"),
            (None, None) => return "other line ends".to_owned(),
        }
    }
}
