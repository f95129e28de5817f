//! Days, which files are named after.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const SECONDS: u64 = 86_400;

/// A day in UTC, counted from 1970-01-01; written `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// The day of a moment in seconds since the Unix epoch.
    pub fn of(unix_seconds: u64) -> Self {
        Self(unix_seconds / SECONDS)
    }

    /// Its first second since the Unix epoch.
    pub fn start(self) -> u64 {
        self.0 * SECONDS
    }

    /// So many days earlier.
    pub fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: SystemTime = UNIX_EPOCH + Duration::from_secs(self.start());
        let text = humantime::format_rfc3339_seconds(start).to_string();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

/// Why a text is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is written such as 2026-11-21")]
pub struct DayError;

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let start = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).map_err(|_| DayError)?;
        let since = start.duration_since(UNIX_EPOCH).map_err(|_| DayError)?;
        Ok(Self::of(since.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_and_read() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(day.to_string(), "2024-02-29");
        assert_eq!(Day::of(day.start() + SECONDS - 1), day);
        assert_eq!(Day::of(day.start() + SECONDS).to_string(), "2024-03-01");
        assert_eq!(day.before(29).to_string(), "2024-01-31");
        for wrong in ["2024-02-30", "24-02-01", "2024-02", "yesterday", ""] {
            assert_eq!(wrong.parse::<Day>(), Err(DayError), "{wrong}");
        }
    }
}
