//! What waits for conditions: several run side by side, each in namespaces of its own.

mod alerts;
mod capture;
mod changes;
mod config;
mod connections_model;
mod control;
mod crash;
mod explain;
mod field_cases;
mod files;
mod findings;
mod forwarding;
mod guarded;
mod health;
mod model;
mod path_mtu;
mod pipeline;
mod predictions;
mod real_packets;
mod restart;
mod services;
mod top;
mod unit;
mod way_back;
