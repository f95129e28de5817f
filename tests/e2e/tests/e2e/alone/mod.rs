//! What measures times and rates, or takes all of the machine: nothing runs beside it.

mod blind;
mod busy;
mod connections;
mod drift;
mod loadtest;
mod outages;
mod rehearse;
mod weights;
