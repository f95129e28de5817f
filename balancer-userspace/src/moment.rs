//! When something was, by a clock that nobody sets.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Further apart, two clocks say that one of them was set.
const SET: Duration = Duration::from_secs(1);

/// Its age is right whoever sets the host's clock meanwhile, and its time of day is told by the clock as it is set when
/// somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    at: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.at.elapsed()
    }

    pub(crate) fn wall(self) -> SystemTime {
        self.wall_at(Instant::now(), SystemTime::now())
    }

    pub(crate) fn unix_seconds(self) -> f64 {
        self.wall().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    }

    fn wall_at(self, now: Instant, clock: SystemTime) -> SystemTime {
        let by_age = clock.checked_sub(now.saturating_duration_since(self.at)).unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH);
        let apart = by_age.duration_since(self.wall).unwrap_or_else(|error| error.duration());
        // The same to the nanosecond, however often somebody asks.
        if apart < SET { self.wall } else { by_age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_nothing_older_or_younger() {
        let start = Instant::now();
        let wall = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let (moment, now) = (Moment { at: start, wall }, start + Duration::from_secs(60));
        assert_eq!(moment.wall_at(now, wall + Duration::from_millis(60_010)), wall, "not set");
        for set_to in [1_000_000, 1_000, 2_000_000_000] {
            let clock = UNIX_EPOCH + Duration::from_secs(set_to);
            assert_eq!(moment.wall_at(now, clock) + Duration::from_secs(60), clock);
        }
        assert_eq!(moment.wall_at(now, UNIX_EPOCH), UNIX_EPOCH);
    }
}
