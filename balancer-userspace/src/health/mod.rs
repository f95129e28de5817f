//! Health checks: whether a backend can serve, asked of the backend itself at its own schedule.

mod farewell;
mod fault;
mod hysteresis;
mod monitor;
mod probe;
pub mod removal;
mod schedule;

use serde::{Deserialize, Serialize};

pub use monitor::{Monitor, Report, Target};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not yet probed, or not often enough to say.
    #[default]
    Unknown,
    Up,
    Down,
}

#[cfg(test)]
mod tests;
