//! Building the eBPF objects: for `cargo xtask`, and for the build scripts that embed them.

pub mod ebpf;
pub mod sweep;
pub mod toolchain;
