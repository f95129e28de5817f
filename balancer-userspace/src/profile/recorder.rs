//! From the kernel's counts, which only grow, to new flows of each service in each interval.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use balancer_common::slot::{BackendIndex, GROUPS, GroupCounts};

use super::record::{Flows, MIXED, Record};
use crate::model::ServiceName;

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the Unix epoch: which interval it is.
    pub since_epoch: Duration,
    /// How long an interval took, whoever sets the clock meanwhile.
    pub at: Instant,
}

/// Mappings of flows to slots, by service, see [`crate::plan::mapping`].
type Mappings = BTreeMap<ServiceName, u32>;

#[derive(Debug)]
struct Open {
    length: Duration,
    /// Intervals of this length since the epoch: all of them begin at the same moments everywhere.
    number: u128,
    began: Instant,
    /// From its very beginning on; what is left of the interval that a controller starts in is no fair measure.
    whole: bool,
    mappings: Mappings,
}

/// Counts are taken in at any time; whenever an index goes to another service, before it does.
#[derive(Debug, Default)]
pub struct Recorder {
    /// By index of the backend.
    last: Vec<GroupCounts>,
    /// Whose flows an index counts. Stays when nobody has the index any more: packets that are under way still count.
    owners: BTreeMap<BackendIndex, ServiceName>,
    flows: BTreeMap<ServiceName, GroupCounts>,
    open: Option<Open>,
}

impl Recorder {
    /// The highest index that counts were taken in of.
    pub fn highest(&self) -> BackendIndex {
        BackendIndex::try_from(self.last.len().saturating_sub(1)).unwrap_or(BackendIndex::MAX)
    }

    /// Takes in all counts since the last time. Those of an index that was not there then are where it starts from.
    pub fn count(&mut self, groups: Vec<GroupCounts>) {
        for ((index, now), before) in (0..).zip(&groups).zip(&self.last) {
            let Some(owner) = self.owners.get(&index).filter(|_| now != before) else { continue };
            if !self.flows.contains_key(owner) {
                self.flows.insert(owner.clone(), [0; GROUPS]);
            }
            let Some(sums) = self.flows.get_mut(owner) else { continue };
            for (sum, (now, before)) in sums.iter_mut().zip(now.iter().zip(before)) {
                *sum = sum.saturating_add(now.wrapping_sub(*before));
            }
        }
        self.last = groups;
    }

    /// From now on these indices count flows of these services.
    pub fn own(&mut self, owners: impl IntoIterator<Item = (BackendIndex, ServiceName)>) {
        self.owners.extend(owners);
    }

    /// Whether an interval is over.
    pub fn is_due(&self, now: Now, length: Duration) -> bool {
        self.open.as_ref().is_none_or(|open| open.length != length || open.number != number(now, length))
    }

    /// Ends the interval and begins the next one. Answers nothing where it was no whole one.
    pub fn turn(&mut self, now: Now, length: Duration, mappings: Mappings) -> Option<Record> {
        let flows = std::mem::take(&mut self.flows);
        let ended = self.open.take().filter(|open| open.length == length);
        let record = ended.as_ref().filter(|open| open.whole).map(|open| Record {
            start: u64::try_from(open.number * length.as_millis() / 1000).unwrap_or(u64::MAX),
            millis: u32::try_from(now.at.duration_since(open.began).as_millis()).unwrap_or(u32::MAX),
            services: flows
                .into_iter()
                .map(|(service, groups)| Flows { mapping: same(&open.mappings, &mappings, &service), service, groups })
                .collect(),
        });
        let (number, whole) = (number(now, length), ended.is_some());
        self.open = Some(Open { length, number, began: now.at, whole, mappings });
        record
    }
}

fn number(now: Now, length: Duration) -> u128 {
    now.since_epoch.as_millis() / length.as_millis().max(1)
}

fn same(before: &Mappings, after: &Mappings, service: &ServiceName) -> u32 {
    match (before.get(service), after.get(service)) {
        (Some(before), Some(after)) if before != after => MIXED,
        (before, after) => after.or(before).copied().unwrap_or(MIXED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Clock(Instant);

    impl Clock {
        /// So many seconds behind a whole minute.
        fn at(&self, seconds: u64) -> Now {
            Now { since_epoch: Duration::from_secs(1_800_000_000 + seconds), at: self.0 + Duration::from_secs(seconds) }
        }
    }

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    /// Counts of indices 0, 1 and so on, all of them in group 3.
    fn counts(counts: &[u32]) -> Vec<GroupCounts> {
        counts.iter().map(|count| std::array::from_fn(|group| if group == 3 { *count } else { 0 })).collect()
    }

    fn mappings(web: u32) -> Mappings {
        [(name("web"), web), (name("api"), 7)].into()
    }

    fn said(record: Option<Record>) -> Vec<(String, u32, u32)> {
        let record = record.unwrap();
        record.services.iter().map(|flows| (flows.service.to_string(), flows.groups[3], flows.mapping)).collect()
    }

    /// Two whole minutes old, with indices 1 and 2 of `web` and 3 of `api`.
    fn running(clock: &Clock) -> Recorder {
        let mut recorder = Recorder::default();
        recorder.count(counts(&[0, 5, 5, 5]));
        recorder.own([(1, name("web")), (2, name("web")), (3, name("api"))]);
        assert!(recorder.is_due(clock.at(30), MINUTE));
        assert_eq!(recorder.turn(clock.at(30), MINUTE, mappings(1)), None);
        assert!(!recorder.is_due(clock.at(59), MINUTE) && recorder.is_due(clock.at(60), MINUTE));
        recorder.count(counts(&[0, 105, 5, 5]));
        assert_eq!(recorder.turn(clock.at(60), MINUTE, mappings(1)), None, "half a minute is none");
        recorder
    }

    #[test]
    fn differences_are_of_services_and_of_whole_minutes() {
        let clock = Clock(Instant::now());
        let mut recorder = running(&clock);
        recorder.count(counts(&[0, 115, 6, 5]));
        let record = recorder.turn(clock.at(121), MINUTE, mappings(1)).unwrap();
        assert_eq!((record.start, record.millis), (1_800_000_060, 61_000));
        assert_eq!(said(Some(record)), [("web".to_owned(), 11, 1)], "who had no flows is left out");
        // Counts go around at 2^32.
        recorder.count(counts(&[0, u32::MAX, 6, 5]));
        recorder.turn(clock.at(180), MINUTE, mappings(1));
        recorder.count(counts(&[0, 9, 6, 5]));
        assert_eq!(said(recorder.turn(clock.at(240), MINUTE, mappings(1))), [("web".to_owned(), 10, 1)]);
    }

    #[test]
    fn an_index_that_goes_to_another_service_takes_no_flows_along() {
        let clock = Clock(Instant::now());
        let mut recorder = running(&clock);
        recorder.count(counts(&[0, 105, 35, 5]));
        recorder.own([(2, name("api")), (4, name("api"))]);
        // An index that is seen for the first time had a history of its own.
        recorder.count(counts(&[0, 105, 35, 5, 9_000]));
        recorder.count(counts(&[0, 105, 39, 5, 9_001]));
        let wanted = [("api".to_owned(), 5, 7), ("web".to_owned(), 30, 1)];
        assert_eq!(said(recorder.turn(clock.at(120), MINUTE, mappings(1))), wanted);
    }

    #[test]
    fn another_mapping_within_a_minute_is_said() {
        let clock = Clock(Instant::now());
        let mut recorder = running(&clock);
        recorder.count(counts(&[0, 106, 5, 6]));
        let wanted = [("api".to_owned(), 1, 7), ("web".to_owned(), 1, MIXED)];
        assert_eq!(said(recorder.turn(clock.at(120), MINUTE, mappings(2))), wanted);
    }

    #[test]
    fn another_length_begins_anew() {
        let clock = Clock(Instant::now());
        let mut recorder = running(&clock);
        let hour = 60 * MINUTE;
        assert!(recorder.is_due(clock.at(61), hour));
        recorder.count(counts(&[0, 106, 5, 6]));
        assert_eq!(recorder.turn(clock.at(61), hour, mappings(1)), None);
        assert_eq!(recorder.turn(clock.at(3600), hour, mappings(1)), None, "not from its beginning");
        assert!(recorder.turn(clock.at(7200), hour, mappings(1)).unwrap().services.is_empty());
    }
}
