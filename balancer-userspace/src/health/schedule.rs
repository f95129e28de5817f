//! When a backend is asked next.

use std::time::Duration;

use rand::Rng;

use crate::model::HealthCheck;

/// However short the interval, a suspected backend is asked no more often than this.
const SHORTEST: Duration = Duration::from_millis(100);

/// From the start of one probe to the next. The interval is a little longer or shorter each time, so that checks of many
/// balancers don't march in step; a suspected backend is asked again after a tenth of it.
pub(super) fn pause(check: &HealthCheck, suspected: bool) -> Duration {
    let jitter = check.jitter.fraction();
    between(check.interval, suspected).mul_f64(1.0 + rand::rng().random_range(-jitter..=jitter))
}

fn between(interval: Duration, suspected: bool) -> Duration {
    if suspected { (interval / 10).max(SHORTEST).min(interval) } else { interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspected_backend_is_asked_sooner_but_not_too_often() {
        let ms = Duration::from_millis;
        for (interval, usual, suspected) in
            [(2000, 2000, 200), (500, 500, 100), (100, 100, 100), (60_000, 60_000, 6000)]
        {
            assert_eq!(between(ms(interval), false), ms(usual));
            assert_eq!(between(ms(interval), true), ms(suspected));
        }
    }
}
