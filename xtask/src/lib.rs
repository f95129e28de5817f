//! Building the eBPF objects, for `cargo xtask` and for the build scripts that embed them, and what else `cargo xtask` and
//! the tests share.

pub mod corpus;
pub mod ebpf;
pub mod report;
pub mod sweep;
pub mod toolchain;
