//! What the kernel should hold for a service, computed from values alone: no maps, sockets or clocks.

mod effective;
mod entry;
pub mod preview;
mod service;
mod transition;

pub use effective::{Effective, Standing, alone, effective};
pub use entry::{acl_prefix, flow_keys, mapping, overhead, slot_of, watched_flow, words};
pub use service::{LpmPrefix, Numbering, Placed, ServicePlan, Weighted, keeps_flows, plan_service};
pub use transition::{Keeping, Patience, Step, closing, former_is_over, step};

/// The fraction of `part` in `whole`; `None` where there is nothing to divide.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
