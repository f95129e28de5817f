//! When connections are due, and which of them are opened.
//!
//! The load is open: connection `i` is due `i / rate` seconds after the start, whatever became of those before it, and
//! latencies count from then. A generator that waits for answers before it goes on is slowed down by the very server that
//! it measures, and leaves out what clients would have waited meanwhile (coordinated omission; Gil Tene, "How NOT to
//! Measure Latency", Strange Loop 2015).

use std::num::NonZeroU32;
use std::time::Duration;

/// Connections a second.
pub const MOST_RATE: u32 = 200_000;
/// Connections of one run.
pub const MOST_CONNECTIONS: u64 = 10_000_000;

/// A host that falls behind by more than this skips connections rather than opening them in a burst.
pub(super) const LATEST: Duration = Duration::from_secs(1);
const NANOSECONDS: u128 = 1_000_000_000;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    #[error(
        "{rate} connections a second for {} are {count}, and {MOST_CONNECTIONS} is the most: lower --rate or --duration",
        humantime::format_duration(*duration)
    )]
    TooMany { rate: NonZeroU32, duration: Duration, count: u128 },
    #[error(
        "{rate} connections a second for {} are none at all: raise --rate or --duration",
        humantime::format_duration(*duration)
    )]
    None { rate: NonZeroU32, duration: Duration },
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub rate: NonZeroU32,
    pub duration: Duration,
    /// Connections that may be open at once.
    pub most_open: usize,
    /// Connections in all.
    count: u64,
}

impl Schedule {
    pub fn new(rate: NonZeroU32, duration: Duration, most_open: usize) -> Result<Self, ScheduleError> {
        let count = duration.as_nanos() * u128::from(rate.get()) / NANOSECONDS;
        match u64::try_from(count) {
            Ok(0) => Err(ScheduleError::None { rate, duration }),
            Ok(count) if count <= MOST_CONNECTIONS => Ok(Self { rate, duration, most_open, count }),
            _ => Err(ScheduleError::TooMany { rate, duration, count }),
        }
    }

    /// Connections in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When a connection is due, from the start.
    fn due(&self, number: u64) -> Duration {
        let nanoseconds = u128::from(number) * NANOSECONDS / u128::from(self.rate.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open {
        due: Duration,
    },
    /// The connection that is due now is never opened.
    Skip(Skip),
    Wait {
        until: Duration,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// As many as may be are open.
    Bound,
    /// This host is too far behind its schedule.
    Late,
}

/// Goes through a schedule once. Connections are never queued: each is opened, or skipped for good.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    next: u64,
}

impl Pacer {
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, next: 0 }
    }

    /// The next step, `now` after the start, while so many connections are `open`.
    pub fn step(&mut self, now: Duration, open: usize) -> Step {
        if self.next >= self.schedule.count {
            return Step::Done;
        }
        let due = self.schedule.due(self.next);
        if due > now {
            return Step::Wait { until: due };
        }
        self.next += 1;
        if now - due > LATEST {
            Step::Skip(Skip::Late)
        } else if open >= self.schedule.most_open {
            Step::Skip(Skip::Bound)
        } else {
            Step::Open { due }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(rate: u32, duration: Duration, most_open: usize) -> Result<Schedule, ScheduleError> {
        Schedule::new(NonZeroU32::new(rate).unwrap(), duration, most_open)
    }

    /// Every step until the pacer has to wait.
    fn steps(pacer: &mut Pacer, now: Duration, open: usize) -> Vec<Step> {
        let mut steps = vec![pacer.step(now, open)];
        while !matches!(steps.last(), Some(Step::Wait { .. } | Step::Done)) {
            steps.push(pacer.step(now, open));
        }
        steps
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn connections_are_due_by_the_clock_and_not_by_one_another() {
        let mut pacer = Pacer::new(schedule(100, 50 * MS, 10).unwrap());
        let now = Duration::ZERO;
        assert_eq!(steps(&mut pacer, now, 0), [Step::Open { due: now }, Step::Wait { until: 10 * MS }]);
        // Woken late, it opens what has become due, with the time at which it was.
        let missed = [Step::Open { due: 10 * MS }, Step::Open { due: 20 * MS }, Step::Wait { until: 30 * MS }];
        assert_eq!(steps(&mut pacer, 29 * MS, 0), missed);
        assert_eq!(
            steps(&mut pacer, 60 * MS, 0),
            [Step::Open { due: 30 * MS }, Step::Open { due: 40 * MS }, Step::Done]
        );
    }

    #[test]
    fn what_exceeds_the_bound_is_skipped_and_never_made_up_for() {
        let mut pacer = Pacer::new(schedule(100, 30 * MS, 2).unwrap());
        assert_eq!(steps(&mut pacer, 10 * MS, 2)[..2], [Step::Skip(Skip::Bound); 2]);
        assert_eq!(steps(&mut pacer, 20 * MS, 1), [Step::Open { due: 20 * MS }, Step::Done]);
    }

    #[test]
    fn a_host_that_stood_still_does_not_send_a_burst() {
        let mut pacer = Pacer::new(schedule(10, 3000 * MS, 1000).unwrap());
        let after = steps(&mut pacer, 2000 * MS, 0);
        assert_eq!(after[..10], [Step::Skip(Skip::Late); 10]);
        assert_eq!(after[10], Step::Open { due: 1000 * MS });
        assert_eq!(after.last(), Some(&Step::Wait { until: 2100 * MS }));
    }

    #[test]
    fn what_is_too_much_or_nothing_is_refused() {
        let most = schedule(100_000, Duration::from_secs(100), 1).unwrap();
        assert_eq!(most.count(), MOST_CONNECTIONS);
        let error = schedule(100_001, Duration::from_secs(100), 1).unwrap_err().to_string();
        assert!(error.contains("10000100, and 10000000 is the most: lower --rate"), "{error}");
        assert!(matches!(schedule(u32::MAX, Duration::MAX, 1), Err(ScheduleError::TooMany { .. })));
        let error = schedule(1, 900 * MS, 1).unwrap_err().to_string();
        assert!(error.contains("1 connections a second for 900ms are none at all"), "{error}");
    }

    proptest! {
        #[test]
        fn every_connection_is_opened_or_skipped_once_and_only_when_due(
            rate in 1..=MOST_RATE,
            milliseconds in 1_u64..2000,
            most_open in 1_usize..50,
            waits in prop::collection::vec((0_u64..400_000_000, 0_usize..60), 1..100),
        ) {
            let Ok(schedule) = schedule(rate, Duration::from_millis(milliseconds), most_open) else { return Ok(()) };
            let mut pacer = Pacer::new(schedule);
            let (mut now, mut opened, mut skipped) = (Duration::ZERO, 0_u64, 0_u64);
            let last = (Duration::from_secs(3600), 0);
            for (wait, open) in waits.iter().map(|(wait, open)| (Duration::from_nanos(*wait), *open)).chain([last]) {
                now += wait;
                for step in steps(&mut pacer, now, open) {
                    match step {
                        Step::Open { due } => {
                            prop_assert!(open < most_open && due <= now && now - due <= LATEST);
                            prop_assert!(due < schedule.duration);
                            opened += 1;
                        }
                        Step::Skip(_) => skipped += 1,
                        Step::Wait { until } => prop_assert!(until > now),
                        Step::Done => prop_assert_eq!(opened + skipped, schedule.count()),
                    }
                }
            }
            prop_assert_eq!(opened + skipped, schedule.count());
        }
    }
}
