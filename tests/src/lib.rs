//! What end-to-end tests, demo and benchmark share: real namespaces, servers, clients and controllers.

pub mod bench;
pub mod binomial;
pub mod capture;
pub mod client;
pub mod controller;
pub mod demo;
pub mod kernels;
pub mod lab;
pub mod model;
pub mod netns;
pub mod programs;
pub mod server;
pub mod supervise;
pub mod web;
