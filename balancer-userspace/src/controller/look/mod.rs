//! Whether what should run, what runs and what came agree, looked at each second: comparison, counts, alarms, drills.

pub(crate) mod alarms;
pub(crate) mod checks;
pub(crate) mod compare;
pub(crate) mod counters;
pub(crate) mod counts;
pub(crate) mod drill;
pub(crate) mod file;
pub(crate) mod flows;
pub(crate) mod shares;
pub(crate) mod traffic;
