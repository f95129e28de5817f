//! `cargo xtask bench`: what a packet costs, and what a large config costs.

pub mod control;
mod frame;
pub mod packets;
mod product;
mod subjects;
