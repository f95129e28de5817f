//! What the XDP program and the controller must agree on, once: map layouts, hashing, packet parsing, header
//! writing and the decision itself. Everything here compiles for the kernel and for userspace; the same
//! functions run in both, over a [`frame::Frame`] and [`tables::Tables`] that each side provides.
//!
//! The way of a packet is [`datapath::process`].

#![no_std]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod capture;
pub mod checksum;
pub mod clock;
pub mod datapath;
pub mod encap;
pub mod flow;
pub mod frame;
pub mod guard;
pub mod hash;
pub mod headers;
pub mod icmp;
pub mod index;
pub mod layout;
pub mod lookup;
pub mod mss;
pub mod nat;
pub mod owner;
pub mod parse;
pub mod path;
pub mod quic;
pub mod slot;
pub mod steps;
pub mod tables;
pub mod verdict;
pub mod vlan;
