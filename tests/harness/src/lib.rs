//! What end-to-end tests, demo and benchmark share: real namespaces, servers, clients and controllers.

pub mod binomial;
pub mod capture;
pub mod client;
pub mod connections;
pub mod controller;
pub mod errors;
pub mod flood;
pub mod frames;
pub mod inject;
pub mod lab;
pub mod model;
pub mod netns;
pub mod packets;
pub mod programs;
pub mod receiver;
pub mod routers;
pub mod running;
pub mod server;
pub mod supervise;
pub mod systemd;
pub mod tamper;
pub mod web;
pub mod world;
