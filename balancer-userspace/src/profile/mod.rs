//! New flows of each service, by slot group and minute, kept for days: what really came, to be played back on another
//! config.
//!
//! `recorder` makes records of the kernel's counts, `record` bytes of records, `store` files of bytes, `replay` loads of
//! records and a config. Only `store` touches a disk; time comes in as an argument.

mod day;
mod period;
mod record;
mod recorder;
mod replay;
mod store;

pub use day::Day;
pub use period::{Period, PeriodError};
pub use record::{Flows, MIXED, Record, decode, encode};
pub use recorder::{Now, Recorder};
pub use replay::{Interval, Loss, Peak, Peaks, Replay};
pub use store::{Store, Stored};
