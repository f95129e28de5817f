//! The control socket: what travels over it, who serves it, who asks.

mod access;
pub mod api;
pub mod client;
pub mod server;
