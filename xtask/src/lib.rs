//! Building the eBPF objects, for `cargo xtask` and for the build scripts that embed them, and what else `cargo xtask` and
//! the tests share.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod corpus;
pub mod ebpf;
pub mod report;
pub mod sweep;
pub mod toolchain;
