//! How long something has lasted, in one unit.

use std::time::{Duration, SystemTime};

/// Since this time, RFC 3339; nothing where it can't be read.
pub(super) fn since(then: &str, now: SystemTime) -> Option<String> {
    let then = humantime::parse_rfc3339_weak(then).ok()?;
    Some(of(now.duration_since(then).unwrap_or_default()))
}

pub(super) fn of(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} m", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_of_one_unit() {
        for (seconds, said) in
            [(0, "0 s"), (119, "119 s"), (120, "2 m"), (7199, "119 m"), (7200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(of(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn a_clock_that_went_back_is_no_error() {
        assert_eq!(since("2026-11-20T10:00:00Z", SystemTime::UNIX_EPOCH).as_deref(), Some("0 s"));
        assert_eq!(since("yesterday", SystemTime::now()), None);
    }
}
