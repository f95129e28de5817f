//! What `cargo xtask demo` shows.

pub mod network;
pub mod report;
