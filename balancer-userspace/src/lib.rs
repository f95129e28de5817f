//! The controller of `balancer` and its command line.
//!
//! `spec` (as written) → `model` (validated) → `plan` (diff, tables by `maglev`) → `dataplane` (maps) → counters back.
//! Beside that line: `health`, `neighbor`, `drift` and `alarm` (what differs, and who hears of it), `doctor`, `control` (API),
//! `metrics`, `loadtest` (a client like any other), `import` (from other balancers' rules), `cli`.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod alarm;
pub mod cli;
pub mod control;
pub mod controller;
pub mod dataplane;
mod descriptors;
pub mod doctor;
pub mod drift;
pub mod health;
pub mod history;
pub mod host;
#[cfg(test)]
mod house;
pub mod http;
pub mod import;
pub mod journal;
mod listener;
pub mod load;
pub mod loadtest;
mod logging;
pub mod maglev;
pub mod metrics;
pub mod model;
mod moment;
pub mod neighbor;
mod opening;
pub mod plan;
mod printable;
pub mod profile;
pub mod regular;
pub mod rights;
pub mod service_manager;
pub mod spec;
pub mod state;
