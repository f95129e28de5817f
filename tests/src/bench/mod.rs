//! `cargo xtask bench`: what a packet costs, and what a large config costs.

pub mod control;
pub mod packets;
