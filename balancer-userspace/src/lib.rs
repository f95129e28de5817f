//! The controller of `balancer` and its command line.
//!
//! `spec` (as written) → `model` (validated) → `plan` (diff, tables by `maglev`) → `dataplane` (maps) → counters back.
//! Beside that line: `health`, `neighbor`, `control` (API), `metrics`, `cli`.

pub mod cli;
pub mod control;
pub mod controller;
pub mod dataplane;
pub mod drift;
pub mod health;
pub mod history;
pub mod host;
pub mod http;
pub mod load;
pub mod maglev;
pub mod metrics;
pub mod model;
pub mod neighbor;
pub mod plan;
pub mod profile;
pub mod spec;
pub mod state;
