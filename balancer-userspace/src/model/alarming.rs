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

/// Whoever is told of alarms by the controller itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub to: Receiver,
    pub format: WebhookFormat,
    /// Of one request, or one run of the program.
    pub timeout: Duration,
    /// Alarms that come within it go together.
    pub wait: Duration,
    /// How often alarms that are still active are sent again.
    pub repeat: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    Http {
        url: String,
        /// Sent with each request: name and value.
        headers: Vec<(String, String)>,
        /// DER of the authorities that certificates are checked against; without any, the public ones.
        authorities: Vec<Vec<u8>>,
    },
    /// A program and its arguments.
    Program(Vec<String>),
}

impl Webhook {
    /// Host and port of a URL, the rest of which may hold a secret; the path of a program.
    pub fn name(&self) -> &str {
        let url = match &self.to {
            Receiver::Http { url, .. } => url.as_str(),
            Receiver::Program(command) => return command.first().map_or("", String::as_str),
        };
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        host.rsplit_once('@').map_or(host, |(_, host)| host)
    }
}

impl Alarming {
    /// Programs that are run.
    pub fn programs(&self) -> impl Iterator<Item = &[String]> {
        self.webhooks.iter().filter_map(|webhook| match &webhook.to {
            Receiver::Program(command) => Some(command.as_slice()),
            Receiver::Http { .. } => None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Alertmanager's API, version 2: a list of alerts.
    Alertmanager,
    /// One document: node, time and a list of alarms.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_webhook_holds_no_secret() {
        let named = |url: &str| {
            let format = WebhookFormat::Json;
            let (timeout, wait, repeat) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
            let to = Receiver::Http { url: url.to_owned(), headers: Vec::new(), authorities: Vec::new() };
            Webhook { to, format, timeout, wait, repeat }.name().to_owned()
        };
        assert_eq!(named("https://user:secret@hooks.example.com:8443/T0/secret?key=1"), "hooks.example.com:8443");
        assert_eq!(named("http://[::1]:9093/api/v2/alerts"), "[::1]:9093");
    }
}
