//! Whether the traffic that is counted is the traffic that was planned: the layer `observed`. Pure: counts and time come in
//! as arguments.

mod skew;
mod watch;

#[cfg(test)]
mod testing;

pub use skew::{Finding, LEAST_EFFECT, Sample, flows_to_show, judge};
pub use watch::{Recorder, Skewed, SlotGroups, Snapshot, Watch};
