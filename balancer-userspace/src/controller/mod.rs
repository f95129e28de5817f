//! The one task that owns what runs. Everything else sends it jobs or events.
//!
//! `desired` is what should run, `observed` what the world says, `kernel` what runs, `watch` what is known of whether they agree:
//! rooms that know their own. `state` has them together, and what takes more than one of them is above it: `step` brings the kernel
//! to what should run, `learn` takes in what the world says, `change` what people ask for, `look` compares, `answer` says.
//! docs/architecture.md has the floors.

mod ahead;
mod answer;
mod change;
mod counts;
mod desired;
mod examine;
mod flows;
pub mod handle;
mod host;
mod kernel;
mod learn;
mod look;
mod observed;
mod proposal;
pub mod published;
mod refusal;
pub mod requests;
mod run;
mod signals;
mod start;
mod state;
mod step;
mod task;
mod unwritten;
mod watch;

pub use self::run::run;
