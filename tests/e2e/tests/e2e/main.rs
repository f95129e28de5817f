//! Every promise to a user, tried end to end: real namespaces, real XDP, real servers and clients.
//!
//! `cargo xtask test` runs `together` with several threads and `alone` with one, one after the other.

mod alone;
mod together;
