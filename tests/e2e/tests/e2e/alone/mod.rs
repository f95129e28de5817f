//! What measures times and rates, or takes all of the machine: nothing runs beside it. `blind` and `outages` measure seconds:
//! they take half of the machine each (`.config/nextest.toml`).

mod blind;
mod busy;
mod connections;
mod drift;
mod loadtest;
mod outages;
mod rehearse;
mod weights;
