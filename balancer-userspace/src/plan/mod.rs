//! What the kernel should hold for a service, computed from values alone: no maps, sockets or clocks.

mod effective;
mod entry;
mod service;

pub use effective::{Effective, Standing, effective};
pub use entry::{address_entry, service_key};
pub use service::{Placed, ServicePlan, Weighted, plan_service};

/// The fraction of `part` in `whole`; `None` where there is nothing to divide.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
