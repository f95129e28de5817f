//! Every promise to a user, tried end to end: real namespaces, real XDP, real servers and clients.
//!
//! `cargo xtask test` runs tests of `together` side by side, and then those of `alone` one after the other.

mod alone;
mod together;
