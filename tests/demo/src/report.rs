//! What the demo found, for people and for scripts.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use balancer::control::api::Status;
use harness::client::Counts;
use serde::Serialize;

use super::network::Service;

/// Further off than this is no chance: 3000 connections stay within 3 points of any share with 99.9 % certainty.
const TOLERANCE: f64 = 0.04;

#[derive(Default, Serialize)]
pub struct Report {
    pub steps: Vec<Step>,
}

/// One service in one step.
#[derive(Serialize)]
pub struct Step {
    /// `start`, `weight` or `failure`.
    name: &'static str,
    service: &'static str,
    forward: &'static str,
    #[serde(skip)]
    title: String,
    /// Connections made, and how many of them got no answer.
    requests: u64,
    failed: u64,
    backends: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    name: String,
    weight: u32,
    state: &'static str,
    /// Of the weights of those that are alive: what the balancer means to do.
    configured: f64,
    /// Of the answers that clients got.
    observed: f64,
    /// Answers that clients got from it.
    requests: u64,
}

impl Step {
    pub fn new(name: &'static str, service: &Service, counts: &Counts, status: &Status) -> Result<Self> {
        let found = status.services.iter().find(|s| s.name.as_str() == service.name).context("the service is gone")?;
        let answered = counts.total().max(1) as f64;
        let share = |backend: &balancer::control::api::BackendStatus| {
            let requests = counts.of(backend.name.as_str());
            Share {
                name: backend.name.to_string(),
                weight: backend.weight,
                state: backend.state.as_str(),
                configured: backend.share.effective.unwrap_or(0.0),
                observed: requests as f64 / answered,
                requests,
            }
        };
        Ok(Self {
            name,
            service: service.name,
            forward: service.forward,
            title: format!("{} at {}, {} ({})", service.name, service.address(), service.forward, service.note),
            requests: counts.total() + counts.failed,
            failed: counts.failed,
            backends: found.backends.iter().map(share).collect(),
        })
    }

    pub fn table(&self) -> String {
        let mut out = format!("   {}: {} connections, {} failed\n", self.title, self.requests, self.failed);
        let header = ["backend", "state", "weight", "configured", "observed", "connections"];
        let row = |cells: [&str; 6]| {
            let [name, state, numbers @ ..] = cells;
            let numbers: String = numbers.iter().map(|cell| format!("{cell:>12}")).collect();
            format!("     {name:<10}{state:<6}{numbers}")
        };
        let _ = writeln!(out, "{}", row(header));
        for share in &self.backends {
            let percent = |share: f64| format!("{:.1} %", share * 100.0);
            let (weight, requests) = (share.weight.to_string(), share.requests.to_string());
            let shares = [share.configured, share.observed].map(percent);
            let line = row([&share.name, share.state, &weight, &shares[0], &shares[1], &requests]);
            let _ = writeln!(out, "{line}  {}", "█".repeat((share.observed * 40.0).round() as usize));
        }
        out
    }
}

impl Report {
    /// An error where a promise was broken.
    pub fn verdict(&self, victim: &str) -> Result<()> {
        for Step { name, service, failed, requests, backends, .. } in &self.steps {
            ensure!(*failed == 0, "{failed} of {requests} connections to {service} failed in step {name}");
            for Share { name: backend, configured, observed, .. } in backends {
                ensure!(
                    (configured - observed).abs() < TOLERANCE,
                    "{service}/{backend} was meant to get {configured:.3} in step {name} and got {observed:.3}"
                );
            }
            let late = backends.iter().find(|share| share.name == victim && share.requests > 0);
            ensure!(*name != "failure" || late.is_none(), "{victim} is dead and still answered for {service}");
        }
        Ok(())
    }
}
