//! What is valid and yet most likely wrong: loads that nobody can take, weights that nothing explains, checks that can't
//! work. Each rule looks at the config, at the places of its keys, and at facts about the host.

mod alike;
mod host;
mod loads;
mod services;
mod weights;

use std::collections::HashMap;
use std::net::IpAddr;

pub use self::host::longest_packet;
use super::Loaded;
use super::catalogue::Kind;
use super::diagnostic::{Diagnostics, Problems, Span};
use super::service::Read;
use crate::load::Prediction;
use crate::model::{Config, Service};

/// What is known of the host that the config is for; nothing where it is another one.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Of all interfaces but those on which loopback addresses are usual (`lo`).
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet of each interface, in bytes.
    pub mtus: HashMap<String, u32>,
}

/// What is found by facts about the host.
const OF_HOST: &[Kind] = &[Kind::OwnAddress, Kind::Mtu];

/// What rules see.
struct Lint<'a> {
    config: &'a Config,
    places: &'a [Read],
    host: &'a Host,
    prediction: &'a Prediction<'a>,
    problems: &'a Problems<'a>,
}

impl Loaded {
    /// Everything that linting finds, also what is silenced and what is only noted, in the order of the file's lines.
    pub fn findings(&self, host: &Host) -> Diagnostics {
        let problems = Problems::new(&self.file, &self.text);
        let prediction = Prediction::new(&self.config.services);
        let lint =
            Lint { config: &self.config, places: &self.places, host, prediction: &prediction, problems: &problems };
        loads::check(&lint);
        weights::check(&lint);
        services::check(&lint);
        alike::check(&lint);
        host::check(&lint);
        let used = problems.silence(&self.silences);
        // What only the host shows can't be found where it is another one.
        let unknown = host.addresses.is_empty() && host.mtus.is_empty();
        let may_be_used = |id: &str| unknown && OF_HOST.iter().any(|kind| kind.id() == id);
        let idle = self.silences.iter().zip(used).filter(|(silence, used)| !used && !may_be_used(&silence.id));
        for (silence, _) in idle {
            let message = format!("nothing here has {}", silence.id);
            let help = "remove this silence, or correct what it names";
            problems.add(Kind::IdleSilence, silence.span.clone(), message, help);
        }
        problems.into_diagnostics()
    }
}

impl Lint<'_> {
    /// Services with their places.
    fn services(&self) -> impl Iterator<Item = (&Service, &Read)> {
        self.config.services.iter().zip(self.places)
    }

    fn about_service(&self, kind: Kind, service: &Service, span: Span, message: String, help: &str) {
        self.problems.add_about(kind, Some(service.name.to_string()), span, message, help);
    }

    /// By indices of service and backend.
    fn about_backend(&self, kind: Kind, (service, backend): (usize, usize), span: Span, message: String, help: String) {
        self.problems.add_about(kind, Some(self.name((service, backend))), span, message, help);
    }

    fn name(&self, (service, backend): (usize, usize)) -> String {
        let service = &self.config.services[service];
        format!("{}/{}", service.name, service.backends[backend].name)
    }
}

/// Such as "137 %".
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}
