//! How what runs is watched, and who hears of it.

use std::time::Duration;

use serde::Serialize;

/// The comparison of what the kernel holds with what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verify {
    pub interval: Duration,
    /// Map content that differs is put right.
    pub self_heal: bool,
    /// So is a program that was replaced or taken off an interface.
    pub self_heal_program: bool,
}

impl Verify {
    pub const DEFAULT: Self = Self { interval: Duration::from_secs(10), self_heal: true, self_heal_program: false };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarming {
    /// What links to entries of the runbook begin with.
    pub runbook: String,
    pub webhooks: Vec<Webhook>,
}

impl Alarming {
    /// Where the packages put it.
    pub const RUNBOOK: &str = "file:///usr/share/doc/balancer/runbook.md";
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: String,
    pub format: WebhookFormat,
    /// Of one request.
    pub timeout: Duration,
    /// Alarms that come within it go together.
    pub wait: Duration,
    /// How often alarms that are still active are sent again.
    pub repeat: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Alertmanager's API, version 2: a list of alerts.
    Alertmanager,
    /// One document: node, time and a list of alarms.
    Json,
}
