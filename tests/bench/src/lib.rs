//! `cargo xtask bench`: what a packet costs, what a large config costs, and the whole path beside what else there is.

pub mod control;
mod frame;
pub mod judge;
pub mod live;
pub mod packets;
pub mod path;
mod product;
mod subjects;
mod wire;

/// The middle one; of an even number the upper.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
