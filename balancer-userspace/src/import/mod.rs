//! From the rules of another balancer to a config of this one: IPVS as `ipvsadm` prints it, and keepalived's config.
//!
//! Text → `VirtualServer`s and [`Remark`]s (`ipvsadm`, `keepalived`) → shares (`share`) and TOML (`write`). Nothing is left
//! out in silence: what a reader does not know becomes a remark, with its file and line.

mod health;
mod ipvsadm;
mod keepalived;
mod report;
mod share;
#[cfg(test)]
mod tests;
mod virtual_server;
mod write;

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

pub use self::report::report;
pub use self::share::{Programmed, Scheduler};
use self::virtual_server::VirtualServer;
use crate::model::{BackendName, ServiceName};

/// Whose rules they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// Rules as `ipvsadm -Sn` or `ipvsadm -Ln` prints them
    Ipvsadm,
    /// A keepalived.conf
    Keepalived,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct At {
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What became of a line that was not taken as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has no effect in the new config.
    NotTaken,
    /// It has another effect.
    Differs,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTaken => "not taken",
            Self::Differs => "differs",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub at: At,
    /// The statement, as it was read.
    pub text: String,
    pub outcome: Outcome,
    pub why: String,
}

/// Remarks as they come up.
#[derive(Debug, Default)]
struct Remarks(Vec<Remark>);

impl Remarks {
    fn not_taken(&mut self, at: &At, text: impl Into<String>, why: impl Into<String>) {
        self.add(at, text.into(), Outcome::NotTaken, why.into());
    }

    fn differs(&mut self, at: &At, text: impl Into<String>, why: impl Into<String>) {
        self.add(at, text.into(), Outcome::Differs, why.into());
    }

    fn add(&mut self, at: &At, text: String, outcome: Outcome, why: String) {
        self.0.push(Remark { at: at.clone(), text, outcome, why });
    }
}

/// What a reader got out of a file.
#[derive(Debug, Default)]
struct Rules {
    servers: Vec<VirtualServer>,
    /// On which the addresses of services are announced, where the file says so.
    interfaces: Vec<String>,
    remarks: Remarks,
}

/// What the config is to have that no rule says.
#[derive(Debug, Clone)]
pub struct Options {
    /// None: those that the file names, or `eth0`.
    pub interfaces: Vec<String>,
    /// Keys the flow hash; a secret.
    pub seed: u64,
}

#[derive(Debug, Serialize)]
pub struct Imported {
    /// The new config.
    pub config: String,
    pub services: Vec<ServiceShares>,
    /// By file and line.
    pub remarks: Vec<Remark>,
    /// What `balancer check` finds wrong with the new config: errors only.
    pub errors: Vec<String>,
}

/// A service and the shares of its backends, there and here.
#[derive(Debug, Serialize)]
pub struct ServiceShares {
    pub at: At,
    pub service: ServiceName,
    pub scheduler: String,
    /// Why shares there are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<&'static str>,
    /// Part of new connections that nobody gets there.
    pub lost: f64,
    pub backends: Vec<BackendShares>,
}

#[derive(Debug, Serialize)]
pub struct BackendShares {
    pub backend: BackendName,
    /// As the old rules say.
    pub old_weight: u32,
    /// Of new connections, as IPVS programs it.
    pub old_share: Option<f64>,
    pub weight: u32,
    pub share: Option<f64>,
}

/// What could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Unreadable {
    at: At,
    what: String,
}

/// Makes a config of the rules in `text`; `file` is what remarks call it, and where files that it includes are looked for.
///
/// # Errors
/// Where braces or quotes of a keepalived.conf don't match: nothing behind them can be told apart.
pub fn import(origin: Origin, file: &str, text: &str, options: &Options) -> Result<Imported, Unreadable> {
    let mut rules = match origin {
        Origin::Ipvsadm => ipvsadm::read(file, text),
        Origin::Keepalived => keepalived::read(file, text)?,
    };
    let services = write::services(std::mem::take(&mut rules.servers), &mut rules.remarks);
    let config = write::config(origin, file, &services, &rules.interfaces, options);
    let errors = write::errors(&config);
    let mut remarks = rules.remarks.0;
    remarks.sort_by(|a, b| a.at.cmp(&b.at));
    // Of a group with many addresses the same is said once.
    remarks.dedup();
    Ok(Imported { config, services: services.iter().map(write::Service::shares).collect(), remarks, errors })
}
