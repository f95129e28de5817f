//! `[profile]`.

use std::time::Duration;

use super::reader::Section;
use crate::model::ProfilePolicy;

pub(super) const PROFILE_KEYS: &[&str] = &["days", "interval"];

const MOST_DAYS: u32 = 3660;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) fn profile(root: &Section<'_>) -> ProfilePolicy {
    let default = ProfilePolicy::DEFAULT;
    let Some(section) = root.section("profile", "profile", PROFILE_KEYS) else { return default };
    ProfilePolicy {
        days: section.number("days", 0..=MOST_DAYS).map_or(default.days, |days| days.value),
        interval: section.duration_within("interval", SHORTEST..=LONGEST).map_or(default.interval, |i| i.value),
    }
}
