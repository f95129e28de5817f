//! Counters of backends only grow. Where one went back, somebody wrote to the kernel's map: what is lost is added to what is
//! counted from then on, so that nobody who reads counters sees them fall.

use balancer_common::slot::BackendIndex;

use crate::dataplane::Counters;
use crate::model::BackendId;
use crate::state::Allocations;

/// Of a place in the kernel's map: what its backend began with, the generation of its service's table, and what was counted.
type Seen = (Counters, u64, Counters);

/// What was counted at the last comparison, by place.
#[derive(Debug, Default)]
pub(crate) struct Counted(Vec<Option<Seen>>);

impl Counted {
    /// Notes what is counted now; answers of each place whose counters went back what was counted before and what is now. A
    /// service that was programmed anew, or a backend that began anew, is not held against what was there before.
    pub(crate) fn note(&mut self, now: Vec<Option<Seen>>) -> Vec<(BackendIndex, Counters, Counters)> {
        let before = std::mem::replace(&mut self.0, now);
        let fell = |(place, pair): (usize, (&Option<Seen>, &Option<Seen>))| {
            let (Some(was), Some(now)) = pair else { return None };
            let fell = now.2.packets < was.2.packets || now.2.bytes < was.2.bytes || now.2.new_flows < was.2.new_flows;
            ((was.0, was.1) == (now.0, now.1) && fell).then_some((place as BackendIndex, was.2, now.2))
        };
        before.iter().zip(&self.0).enumerate().filter_map(fell).collect()
    }

    /// Its backend begins with another count from now on.
    pub(crate) fn rebase(&mut self, place: BackendIndex, base: Counters) {
        if let Some(Some(seen)) = self.0.get_mut(usize::from(place)) {
            seen.0 = base;
        }
    }
}

/// Adds what was lost to what every count of the backend begins with.
pub(crate) fn give_back(
    allocations: &mut Allocations,
    id: &BackendId,
    was: Counters,
    is: Counters,
) -> Option<Counters> {
    let allocated = allocations.backends.get_mut(id)?;
    allocated.base = Counters {
        packets: allocated.base.packets + was.packets.saturating_sub(is.packets),
        bytes: allocated.base.bytes + was.bytes.saturating_sub(is.bytes),
        new_flows: allocated.base.new_flows + was.new_flows.saturating_sub(is.new_flows),
    };
    Some(allocated.base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Allocated;

    fn counters(packets: u64) -> Counters {
        Counters { packets, bytes: packets * 60, new_flows: packets / 10 }
    }

    /// What is seen of place 1.
    fn seen(generation: u64, packets: u64) -> Vec<Option<Seen>> {
        vec![None, Some((Counters::default(), generation, counters(packets)))]
    }

    #[test]
    fn a_counter_that_fell_is_found_once_and_one_that_began_anew_is_not() {
        let mut counted = Counted::default();
        assert!(counted.note(seen(5, 180)).is_empty(), "nothing was known before");
        assert!(counted.note(seen(5, 200)).is_empty(), "it grew");
        assert_eq!(counted.note(seen(5, 0)), [(1, counters(200), counters(0))]);
        assert!(counted.note(seen(5, 0)).is_empty(), "it was told");
        counted.note(seen(5, 100));
        assert!(counted.note(seen(6, 0)).is_empty(), "programmed anew");
        counted.note(seen(6, 100));
        counted.rebase(1, counters(100));
        assert!(counted.note(seen(6, 0)).is_empty(), "it began with another count");
        assert!(counted.note(Vec::new()).is_empty(), "it went");
    }

    #[test]
    fn what_was_lost_is_counted_again() {
        let id: BackendId = "web/a".parse().unwrap();
        let mut allocations = Allocations::default();
        let allocated = Allocated { index: 1, base: counters(10), identity: "l2 192.0.2.1".to_owned() };
        allocations.backends.insert(id.clone(), allocated);
        let base = give_back(&mut allocations, &id, counters(180), counters(30)).unwrap();
        assert_eq!(base + counters(30), counters(190));
        assert_eq!(allocations.backends[&id].base, base);
    }
}
