//! What one webhook has still to be told: alarms that came and went are put together, sent, sent again until they arrive,
//! and repeated while they last. Time comes in as an argument, and what is sent goes out as a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Alarm;

/// Alarms that a receiver can be told of at a time; of more, the newest of what is over are forgotten first.
const MOST: usize = 10_000;
/// Between two attempts, doubled from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What tells one alarm from another.
type Key = (String, Option<String>, Option<String>, Option<String>, String);

fn key(alarm: &Alarm) -> Key {
    let text = |name: Option<&str>| name.map(str::to_owned);
    let subject = &alarm.subject;
    (
        alarm.alarm.clone(),
        text(subject.service.as_ref().map(|name| name.as_str())),
        text(subject.backend.as_ref().map(|name| name.as_str())),
        subject.entry.clone(),
        alarm.since.clone(),
    )
}

/// Of one webhook.
#[derive(Debug)]
pub(super) struct Outbox {
    wait: Duration,
    repeat: Duration,
    /// Everything that is active, and what is over and was not told yet.
    alarms: BTreeMap<Key, Alarm>,
    /// What was not told yet.
    news: BTreeSet<Key>,
    due: Option<Instant>,
    failures: u32,
}

impl Outbox {
    pub(super) fn new(wait: Duration, repeat: Duration) -> Self {
        Self { wait, repeat, alarms: BTreeMap::new(), news: BTreeSet::new(), due: None, failures: 0 }
    }

    /// Takes in what came and what went.
    pub(super) fn note(&mut self, changed: &[Alarm], now: Instant) {
        for alarm in changed {
            let key = key(alarm);
            self.news.insert(key.clone());
            self.alarms.insert(key, alarm.clone());
        }
        while self.alarms.len() > MOST {
            let over = self.alarms.iter().rev().find(|(_, alarm)| alarm.until.is_some()).map(|(key, _)| key.clone());
            let Some(key) = over.or_else(|| self.alarms.keys().next_back().cloned()) else { break };
            self.news.remove(&key);
            self.alarms.remove(&key);
        }
        // While a receiver fails, its pause decides.
        if !changed.is_empty() && self.failures == 0 {
            let soon = now + self.wait;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// When to look again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Everything to be told now; nothing before it is due.
    pub(super) fn batch(&self, now: Instant) -> Vec<Alarm> {
        if self.due.is_none_or(|due| now < due) { Vec::new() } else { self.alarms.values().cloned().collect() }
    }

    /// The batch arrived.
    pub(super) fn sent(&mut self, batch: &[Alarm], now: Instant) {
        self.failures = 0;
        for alarm in batch {
            let key = key(alarm);
            // What went meanwhile is news.
            if self.alarms.get(&key) == Some(alarm) {
                self.news.remove(&key);
                if alarm.until.is_some() {
                    self.alarms.remove(&key);
                }
            }
        }
        self.due = match (self.news.is_empty(), self.alarms.is_empty()) {
            (false, _) => Some(now + self.wait),
            (true, false) => Some(now + self.repeat),
            (true, true) => None,
        };
    }

    /// It did not.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.due = Some(now + pause);
    }

    /// How often in a row nothing arrived.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::{Severity, Subject};

    fn alarm(name: &str, until: Option<&str>) -> Alarm {
        Alarm {
            alarm: name.to_owned(),
            severity: Severity::Warning,
            subject: Subject::default(),
            summary: String::new(),
            since: "1".to_owned(),
            until: until.map(str::to_owned),
        }
    }

    fn outbox() -> (Outbox, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        (Outbox::new(Duration::from_secs(2), Duration::from_secs(60)), at)
    }

    fn names(batch: &[Alarm]) -> Vec<(&str, bool)> {
        batch.iter().map(|alarm| (alarm.alarm.as_str(), alarm.until.is_some())).collect()
    }

    #[test]
    fn alarms_that_come_together_go_together_and_are_repeated_while_they_last() {
        let (mut outbox, at) = outbox();
        outbox.note(&[alarm("a", None)], at(0));
        outbox.note(&[alarm("b", None)], at(1));
        assert!(outbox.batch(at(1)).is_empty());
        let batch = outbox.batch(at(2));
        assert_eq!(names(&batch), [("a", false), ("b", false)]);
        outbox.sent(&batch, at(2));
        assert!(outbox.batch(at(61)).is_empty());
        assert_eq!(names(&outbox.batch(at(62))), [("a", false), ("b", false)]);
        outbox.note(&[alarm("a", Some("9"))], at(63));
        let batch = outbox.batch(at(65));
        assert_eq!(names(&batch), [("a", true), ("b", false)]);
        outbox.sent(&batch, at(65));
        assert_eq!(names(&outbox.batch(at(200))), [("b", false)]);
        outbox.note(&[alarm("b", Some("9"))], at(200));
        outbox.sent(&outbox.batch(at(202)), at(202));
        assert_eq!(outbox.due(), None);
    }

    #[test]
    fn what_does_not_arrive_is_sent_again_ever_less_often_and_nothing_is_lost() {
        let (mut outbox, at) = outbox();
        outbox.note(&[alarm("a", None)], at(0));
        let mut now = 2;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(outbox.batch(at(now)).len(), 1);
            outbox.failed(at(now));
            let due = outbox.due().unwrap().duration_since(at(now)).as_secs();
            pauses.push(due);
            now += due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        // It is over before anybody heard of it; both are told.
        outbox.note(&[alarm("a", Some("9")), alarm("b", None)], at(now));
        let batch = outbox.batch(at(now));
        assert_eq!(names(&batch), [("a", true), ("b", false)]);
        outbox.sent(&batch, at(now));
        assert_eq!(outbox.failures(), 0);
    }

    #[test]
    fn what_ends_while_it_is_being_told_is_told_again() {
        let (mut outbox, at) = outbox();
        outbox.note(&[alarm("a", None)], at(0));
        let batch = outbox.batch(at(2));
        outbox.note(&[alarm("a", Some("9"))], at(3));
        outbox.sent(&batch, at(4));
        assert_eq!(names(&outbox.batch(at(6))), [("a", true)]);
    }

    #[test]
    fn an_outbox_is_bounded() {
        let (mut outbox, at) = outbox();
        for number in 0..MOST + 500 {
            outbox.note(&[alarm(&format!("{number:06}"), (number % 2 == 0).then_some("9"))], at(0));
        }
        assert_eq!(outbox.batch(at(2)).len(), MOST);
        assert_eq!(outbox.batch(at(2)).iter().filter(|alarm| alarm.until.is_none()).count(), MOST / 2 + 250);
    }
}
