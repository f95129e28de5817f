//! The comparison that never stops: what the kernel holds and what is attached against what was planned, once an interval.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::kernel::KernelService;
use crate::controller::state::State;
use crate::controller::watch::gap::gap;
use crate::controller::watch::name::UNKNOWN_SLOTS;
use crate::dataplane::{Attached, Difference, Expected, LinkState, SlotDifferences, TableCounts};
use crate::moment::Moment;

/// Backends whose counts are read in a second; with more of them they are read less often.
const BACKENDS_A_SECOND: u64 = 4_000;
/// Longer lists of prefixes are compared only where somebody asks.
const PREFIXES_EACH_TIME: usize = 10_000;
/// Gaps of the kernel's maps that are told one by one.
const MOST_GAPS: usize = 50;

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
        *gaps = self.kernel.named(&differences, &slots);
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
            let healed = self.desired.config.node.verify.self_heal_program
                && self.kernel.attach_again(&interface, &self.desired.config.interfaces);
            gaps.push(Gap {
                entry: interface,
                healed,
                ..gap(alarm.name, Layer::Kernel, Layer::Program, &ours, &found)
            });
        }
        gaps
    }

    /// What the kernel holds of a service's table: as written, or as the last comparison found it.
    pub(crate) fn kernel_counts<'a>(&'a self, programmed: &'a KernelService) -> Option<&'a TableCounts> {
        match self.watch.drift.astray.get(&programmed.plan.entry.table) {
            Some(found) => found.as_ref(),
            None => Some(&programmed.counts),
        }
    }
}
