//! Counters of backends only grow. Where one went back, somebody wrote to the kernel's map: what is lost is added to what is
//! counted from then on, so that nobody who reads counters sees them fall.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::state::State;
use crate::controller::watch::compare::gap;
use crate::dataplane::Counters;
use crate::model::BackendId;
use crate::state::{Allocated, Allocations};

/// A backend's place, the generation of its service's table, and what was counted there.
type Seen = (Allocated, u64, Counters);

/// What was counted at the last comparison.
#[derive(Debug, Default)]
pub(crate) struct Counted(BTreeMap<BackendId, Seen>);

impl Counted {
    /// Notes what is counted now; answers of each backend whose counters went back what was counted before and what is now. A
    /// backend that has another place since, or a service that was programmed anew, begins anew.
    fn note(&mut self, now: BTreeMap<BackendId, Seen>) -> Vec<(BackendId, Counters, Counters)> {
        let before = std::mem::replace(&mut self.0, now);
        let same = |(id, now): (&BackendId, &Seen)| {
            let was = before.get(id)?;
            let fell = now.2.packets < was.2.packets || now.2.bytes < was.2.bytes || now.2.new_flows < was.2.new_flows;
            ((&was.0, was.1) == (&now.0, now.1) && fell).then(|| (id.clone(), was.2, now.2))
        };
        self.0.iter().filter_map(same).collect()
    }

    /// Where a backend begins is another place from now on.
    fn rebase(&mut self, id: &BackendId, allocated: &Allocated) {
        if let Some(seen) = self.0.get_mut(id) {
            seen.0 = allocated.clone();
        }
    }
}

/// Adds what was lost to what every count of the backend begins with.
fn give_back(allocations: &mut Allocations, id: &BackendId, was: Counters, is: Counters) -> Option<Allocated> {
    let allocated = allocations.backends.get_mut(id)?;
    allocated.base = Counters {
        packets: allocated.base.packets + was.packets.saturating_sub(is.packets),
        bytes: allocated.base.bytes + was.bytes.saturating_sub(is.bytes),
        new_flows: allocated.base.new_flows + was.new_flows.saturating_sub(is.new_flows),
    };
    Some(allocated.clone())
}

impl State {
    /// Counters that went back since the last comparison.
    pub(crate) fn compare_counters(&mut self, heal: bool) -> Result<Vec<Gap>> {
        let counters = self.counters()?;
        let seen = self.kernel.allocations.backends.iter().filter_map(|(id, allocated)| {
            let generation = self.kernel.programmed.get(&id.service)?.generation;
            let counted = counters.get(usize::from(allocated.index)).copied().unwrap_or_default();
            Some((id.clone(), (allocated.clone(), generation, counted)))
        });
        let fallen = self.watch.drift.counters.note(seen.collect());
        let mut gaps = Vec::new();
        for (id, was, is) in fallen {
            let said = |counters: Counters| format!("{} packets, {} new flows", counters.packets, counters.new_flows);
            let expected = format!("at least {}", said(was));
            if heal && let Some(allocated) = give_back(&mut self.kernel.allocations, &id, was, is) {
                self.watch.drift.counters.rebase(&id, &allocated);
            }
            gaps.push(Gap {
                service: Some(id.service),
                backend: Some(id.backend),
                entry: "counters".to_owned(),
                healed: heal,
                ..gap(catalogue::SETTINGS.name, Layer::Planned, Layer::Kernel, &expected, &said(is))
            });
        }
        if gaps.iter().any(|gap| gap.healed) {
            self.store.save_allocations(&self.kernel.allocations)?;
        }
        Ok(gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(index: u16, generation: u64, packets: u64) -> BTreeMap<BackendId, Seen> {
        let allocated = Allocated { index, base: Counters::default(), identity: "l2 192.0.2.1".to_owned() };
        let counters = Counters { packets, bytes: packets * 60, new_flows: packets / 10 };
        [("web/a".parse().unwrap(), (allocated, generation, counters))].into()
    }

    #[test]
    fn a_counter_that_fell_is_found_once_and_one_that_began_anew_is_not() {
        let mut counted = Counted::default();
        assert!(counted.note(seen(1, 5, 180)).is_empty(), "nothing was known before");
        assert!(counted.note(seen(1, 5, 200)).is_empty(), "it grew");
        let fallen = counted.note(seen(1, 5, 0));
        assert_eq!((fallen.len(), fallen[0].1.packets, fallen[0].2.packets), (1, 200, 0));
        assert!(counted.note(seen(1, 5, 0)).is_empty(), "it was told");
        counted.note(seen(1, 5, 100));
        assert!(counted.note(seen(2, 5, 0)).is_empty(), "another place");
        counted.note(seen(2, 5, 100));
        assert!(counted.note(seen(2, 6, 0)).is_empty(), "programmed anew");
    }

    #[test]
    fn what_was_lost_is_counted_again() {
        let id: BackendId = "web/a".parse().unwrap();
        let mut allocations = Allocations::default();
        allocations.backends.insert(id.clone(), seen(1, 5, 0)[&id].0.clone());
        let counters = |packets| Counters { packets, bytes: packets * 60, new_flows: packets / 10 };
        let allocated = give_back(&mut allocations, &id, counters(180), counters(30)).unwrap();
        assert_eq!(allocated.base + counters(30), counters(180));
        assert_eq!(allocations.backends[&id], allocated);
    }
}
