//! Which part of the profile is meant.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::day::Day;

/// `yesterday`, `today`, `all`, a day such as `2026-11-21`, or so long until now, such as `24h`. Days are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Period {
    Yesterday,
    Today,
    All,
    Day(Day),
    Last(Duration),
}

/// Why a text is no period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write yesterday, today, all, a day such as 2026-11-21, or how far back from now, such as 24h")]
pub struct PeriodError;

impl Period {
    /// From the first second to the one behind the last, since the Unix epoch.
    pub fn seconds(self, now: u64) -> Range<u64> {
        let whole = |day: Day| day.start()..day.start() + super::day::SECONDS;
        match self {
            Self::Yesterday => whole(Day::of(now).before(1)),
            Self::Today => whole(Day::of(now)),
            Self::All => 0..u64::MAX,
            Self::Day(day) => whole(day),
            Self::Last(duration) => now.saturating_sub(duration.as_secs())..u64::MAX,
        }
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        match text {
            "yesterday" => Ok(Self::Yesterday),
            "today" => Ok(Self::Today),
            "all" => Ok(Self::All),
            _ => match (text.parse(), humantime::parse_duration(text)) {
                (Ok(day), _) => Ok(Self::Day(day)),
                (_, Ok(duration)) if !duration.is_zero() => Ok(Self::Last(duration)),
                _ => Err(PeriodError),
            },
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yesterday => f.write_str("yesterday"),
            Self::Today => f.write_str("today"),
            Self::All => f.write_str("all"),
            Self::Day(day) => day.fmt(f),
            // As people write it, and not as days of 24 hours.
            Self::Last(duration) if duration.as_secs().is_multiple_of(3600) => {
                write!(f, "{}h", duration.as_secs() / 3600)
            }
            Self::Last(duration) => humantime::format_duration(*duration).fmt(f),
        }
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_written_again() {
        let day = Day::of(1_000_000_000);
        for (text, wanted) in [
            ("yesterday", Period::Yesterday),
            ("all", Period::All),
            ("2001-09-09", Period::Day(day)),
            ("24h", Period::Last(Duration::from_secs(86_400))),
            ("90m", Period::Last(Duration::from_secs(5400))),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period, wanted);
            assert_eq!(period.to_string().parse::<Period>(), Ok(wanted));
        }
        for wrong in ["", "0s", "tomorrow", "2001-9-9", "24"] {
            assert_eq!(wrong.parse::<Period>(), Err(PeriodError), "{wrong}");
        }
    }

    #[test]
    fn hours_stay_hours() {
        assert_eq!(Period::Last(Duration::from_secs(86_400)).to_string(), "24h");
    }

    #[test]
    fn days_are_whole_and_hours_reach_back_from_now() {
        let noon = Day::of(1_000_000_000).start() + 43_200;
        assert_eq!(Period::Yesterday.seconds(noon), noon - 129_600..noon - 43_200);
        assert_eq!(Period::Today.seconds(noon), noon - 43_200..noon + 43_200);
        assert!(Period::Last(Duration::from_secs(60)).seconds(noon).contains(&(noon - 60)));
        assert!(!Period::Last(Duration::from_secs(60)).seconds(noon).contains(&(noon - 61)));
    }
}
