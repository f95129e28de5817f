//! A service of backends with one second's window, step by step.

use std::time::{Duration, Instant};

use super::*;
use crate::model::{CheckKind, Jitter};

/// 300 + 700 ms.
fn times() -> Times {
    let ms = Duration::from_millis;
    let (interval, timeout, jitter) = (ms(100), ms(700), Jitter::DEFAULT);
    Times::of(&HealthCheck { kind: CheckKind::Tcp, port: None, interval, timeout, rise: 2, fall: 3, jitter })
}

struct Table {
    start: Instant,
    removals: Removals,
    weights: Vec<u64>,
    capacity: Option<u64>,
    flows: Option<f64>,
}

impl Table {
    /// All of them serve at second 0.
    fn new(weights: &[u64]) -> Self {
        let (removals, weights) = (Removals::default(), weights.to_vec());
        let mut table = Self { start: Instant::now(), removals, weights, capacity: None, flows: None };
        let all = "+".repeat(table.weights.len());
        assert_eq!(table.at(0.0, &all), all);
        table
    }

    fn member(i: usize) -> Member {
        (format!("b{i}").parse().unwrap(), [10, 0, 0, i as u8].into())
    }

    /// Takes in a sign for each backend: `+` answers, `-` fails, `?` nothing is known, `o` out. Answers who is in the
    /// table: `+` by its own evidence, `k` kept, `.` not, `w` waits.
    fn at(&mut self, second: f64, signs: &str) -> String {
        let evidence = |(i, sign): (usize, char)| Evidence {
            member: Self::member(i),
            verdict: match sign {
                '+' => Verdict::Well,
                '-' => Verdict::Failing,
                '?' => Verdict::NoEvidence,
                _ => Verdict::Out,
            },
            weight: self.weights[i],
            capacity: self.capacity,
        };
        let all: Vec<Evidence> = signs.chars().enumerate().map(evidence).collect();
        self.removals.judge(&all, self.flows, times(), self.start + Duration::from_secs_f64(second));
        let seen = |one: &Evidence| match self.removals.fate(&one.member) {
            Fate::Kept(_) => 'k',
            Fate::Waits(_) => 'w',
            Fate::Own if one.verdict == Verdict::Well => '+',
            Fate::Own => '.',
        };
        all.iter().map(seen).collect()
    }

    fn plays(mut self, steps: &[(f64, &str, &str)]) {
        for (second, signs, wanted) in steps {
            assert_eq!(self.at(*second, signs), *wanted, "at {second} s of {steps:?}: {:?}", self.removals);
        }
    }
}

#[test]
fn a_backend_that_fails_alone_leaves_at_once_and_returns_at_once() {
    Table::new(&[1, 1]).plays(&[(1.0, "-+", ".+"), (1.5, "++", "++")]);
    Table::new(&[300, 100]).plays(&[(1.0, "-+", ".+")]);
    Table::new(&[1, 1, 1, 1]).plays(&[(1.0, "-+++", ".+++"), (1.2, "--++", "..++")]);
    // One after the other, each in a window of its own.
    Table::new(&[1, 1, 1]).plays(&[(1.0, "-++", ".++"), (2.0, "--+", "..+"), (9.0, "--+", "..+")]);
}

#[test]
fn the_last_keeps_its_place_for_as_long_as_nobody_answers() {
    Table::new(&[1]).plays(&[(1.0, "-", "k"), (1000.0, "-", "k"), (1001.0, "+", "+")]);
    Table::new(&[1, 1]).plays(&[(1.0, "-+", ".+"), (5.0, "--", ".k"), (500.0, "--", ".k"), (501.0, "-+", ".+")]);
}

#[test]
fn all_at_once_are_kept_those_that_left_first_included() {
    Table::new(&[1, 1, 1, 1, 1]).plays(&[
        (1.0, "--+++", "..+++"),
        (1.3, "---++", "kkk++"),
        (1.4, "-----", "kkkkk"),
        (60.0, "-----", "kkkkk"),
        // The first that comes back does not get everything.
        (60.1, "--+--", "kk+kk"),
        (60.2, "+-+-+", "+k+k+"),
        (60.3, "+++++", "+++++"),
    ]);
}

#[test]
fn who_is_kept_leaves_once_it_has_failed_for_long_beside_others_that_answer() {
    Table::new(&[1, 1, 1, 1, 1]).plays(&[
        (1.0, "---++", "kkk++"),
        (3.9, "---++", "kkk++"),
        (4.0, "---++", "...++"),
        (4.1, "----+", "....+"),
        (4.2, "-----", "...kk"),
    ]);
    // The time in which nobody answered does not count.
    Table::new(&[1, 1]).plays(&[
        (1.0, "--", "kk"),
        (50.0, "+-", "+k"),
        (52.0, "--", "kk"),
        (53.0, "+-", "+k"),
        (55.9, "+-", "+k"),
        (56.0, "+-", "+."),
    ]);
}

#[test]
fn nobody_leaves_to_the_others_more_than_they_can_take() {
    let loaded = |flows| Table { capacity: Some(100), flows: Some(flows), ..Table::new(&[1, 1, 1]) };
    loaded(200.0).plays(&[(1.0, "-++", ".++")]);
    loaded(210.0).plays(&[(1.0, "-++", "k++"), (60.0, "-++", "k++"), (61.0, "+++", "+++")]);
    let mut table = loaded(210.0);
    assert_eq!(table.at(1.0, "-++"), "k++");
    assert!(table.removals.refused().unwrap().contains("b1 would get 105 new flows a second and can take 100"));
    table.flows = Some(150.0);
    assert_eq!(table.at(5.0, "-++"), ".++", "the load went down");
}

#[test]
fn no_evidence_changes_nothing() {
    Table::new(&[1, 1]).plays(&[(1.0, "??", "kk"), (99.0, "??", "kk"), (100.0, "-?", ".k"), (101.0, "??", ".k")]);
    let mut never = Table { removals: Removals::default(), ..Table::new(&[1, 1]) };
    assert_eq!(never.at(1.0, "?-"), "..", "they were never in the table");
}

#[test]
fn the_operators_will_is_no_removal() {
    Table::new(&[1, 1, 1]).plays(&[(1.0, "oo+", "..+"), (1.1, "oo-", "..k"), (1.2, "ooo", "..."), (1.3, "+o-", "+..")]);
}

#[test]
fn who_flaps_waits_but_never_the_last() {
    let mut table = Table::new(&[1, 1]);
    for round in 0..3 {
        let second = 5.0 * f64::from(round);
        assert_eq!(table.at(second + 1.0, "-+"), ".+");
        assert_eq!(table.at(second + 2.0, "++"), if round < 2 { "++" } else { "w+" });
    }
    let now = table.start + Duration::from_secs(12);
    assert_eq!(table.removals.flapping(now).count(), 1);
    assert!(table.removals.is_waiting());
    assert_eq!(table.at(12.9, "++"), "w+");
    assert_eq!(table.at(13.0, "++"), "++");
    assert_eq!(table.at(16.0, "-+"), ".+");
    assert_eq!(table.at(17.0, "++"), "w+");
    assert_eq!(table.at(17.1, "+-"), "+.", "it is needed");
}

#[test]
fn what_was_decided_is_said_with_counts() {
    let mut table = Table::new(&[3, 1, 1]);
    assert_eq!(table.at(1.0, "--+"), "kk+");
    let said = table.removals.refused().unwrap();
    assert_eq!(said, "2 of 3 backends in the table, 80 % of the weight, fail their checks within 1s");
    let gone = |table: &Table| {
        table.removals.is_gone_for(&Table::member(0), Duration::from_secs(5), table.start + Duration::from_secs(8))
    };
    assert!(!gone(&table), "it is kept");
    assert_eq!(table.at(2.9, "-++"), "k++");
    assert_eq!(table.at(4.0, "-++"), ".++");
    assert!(!gone(&table));
}
