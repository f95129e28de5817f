//! What the XDP program and the controller must agree on, once: map layouts, hashing, packet parsing, header
//! writing and the decision itself. Everything here compiles for the kernel and for userspace; the same
//! functions run in both, over a [`frame::Frame`] and [`tables::Tables`] that each side provides.
//!
//! The way of a packet is [`datapath::process`].

#![no_std]

pub mod checksum;
pub mod datapath;
pub mod encap;
pub mod flow;
pub mod frame;
pub mod hash;
pub mod headers;
pub mod layout;
pub mod nat;
pub mod parse;
pub mod slot;
pub mod tables;
pub mod verdict;
