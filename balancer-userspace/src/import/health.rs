//! How keepalived checks a server, and how this balancer will.

use std::fmt::Write;
use std::time::Duration;

/// One check of a real server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub kind: Kind,
    /// Where it is not the server's own.
    pub port: Option<u16>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that take a server down.
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Tcp,
    Http { path: String, host: Option<String> },
}

impl Check {
    /// The table of the config.
    pub fn toml(&self) -> String {
        let mut out = "[service.health]\n".to_owned();
        match &self.kind {
            Kind::Tcp => out += "kind = \"tcp\"\n",
            Kind::Http { path, host } => {
                let _ = writeln!(out, "kind = \"http\"\npath = {}", quoted(path));
                if let Some(host) = host {
                    let _ = writeln!(out, "host = {}", quoted(host));
                }
            }
        }
        if let Some(port) = self.port {
            let _ = writeln!(out, "port = {port}");
        }
        let (interval, timeout) = (humantime::format_duration(self.interval), humantime::format_duration(self.timeout));
        // keepalived takes a server back after one success.
        let _ = writeln!(out, "interval = \"{interval}\"\ntimeout = \"{timeout}\"\nrise = 1\nfall = {}", self.fall);
        out
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
