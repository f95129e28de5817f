//! What is valid and yet most likely wrong: loads that nobody can take, weights that nothing explains, checks that can't
//! work. Each rule looks at the config, at the places of its keys, and at facts about the host.

mod alike;
mod host;
mod loads;
mod node;
mod reweighed;
mod services;
mod tables;
mod weights;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

pub use self::host::longest_packet;
pub use self::reweighed::{Concerned, Reweighing};
use super::catalogue::Kind;
use super::diagnostic::{Diagnostics, Problems, Span};
use super::service::Read;
use super::{Loaded, Written};
use crate::load::Prediction;
use crate::model::{Interface, Node, Service};

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
    models: &'a [Service],
    /// Of each service of `models`.
    places: Vec<&'a Read>,
    /// Services whose weights are judged; the others are there for what they have in common with these.
    judged: Vec<bool>,
    /// Failure domains of servers that are in none of `models`.
    domains_elsewhere: &'a HashSet<String>,
    node: &'a Node,
    interfaces: &'a [Interface],
    host: &'a Host,
    prediction: &'a Prediction<'a>,
    problems: &'a Problems<'a>,
}

impl Loaded {
    /// Everything that linting finds, also what is silenced and what is only noted, in the order of the file's lines.
    pub fn findings(&self, host: &Host) -> Diagnostics {
        let Written { file, lines, places, silences } = &self.written;
        let problems = Problems::with_lines(file, &self.text, lines);
        let prediction = Prediction::new(&self.config.services);
        let lint = Lint {
            models: &self.config.services,
            places: places.iter().collect(),
            judged: vec![true; places.len()],
            domains_elsewhere: &HashSet::new(),
            node: &self.config.node,
            interfaces: &self.config.interfaces,
            host,
            prediction: &prediction,
            problems: &problems,
        };
        loads::unknown(&lint);
        loads::check(&lint);
        weights::check(&lint);
        services::weights(&lint);
        services::check(&lint);
        tables::check(&lint);
        alike::servers(&lint);
        alike::sites(&lint);
        host::check(&lint);
        node::check(&lint, &self.text);
        let used = problems.silence(silences);
        // What only the host shows can't be found where it is another one.
        let unknown = host.addresses.is_empty() && host.mtus.is_empty();
        let may_be_used = |id: &str| unknown && OF_HOST.iter().any(|kind| kind.id() == id);
        let idle = silences.iter().zip(used).filter(|(silence, used)| !used && !may_be_used(silence.id));
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
        self.models.iter().zip(self.places.iter().copied())
    }

    /// The same, with their numbers.
    fn all(&self) -> impl Iterator<Item = (usize, (&Service, &Read))> {
        self.services().enumerate()
    }

    /// Those whose weights are judged.
    fn judged(&self) -> impl Iterator<Item = (usize, (&Service, &Read))> {
        self.all().filter(|(number, _)| self.judged[*number])
    }

    fn about_service(&self, kind: Kind, service: &Service, span: Span, message: String, help: &str) {
        self.about_service_by(kind, 0.0, service, span, message, help);
    }

    fn about_service_by(&self, kind: Kind, degree: f64, service: &Service, span: Span, message: String, help: &str) {
        self.problems.add_graded(kind, degree, Some(service.name.to_string()), span, message, help);
    }

    /// By indices of service and backend.
    fn about_backend(&self, kind: Kind, at: (usize, usize), span: Span, message: String, help: String) {
        self.about_backend_by(kind, 0.0, at, span, message, help);
    }

    fn about_backend_by(&self, kind: Kind, degree: f64, at: (usize, usize), span: Span, message: String, help: String) {
        self.problems.add_graded(kind, degree, Some(self.name(at)), span, message, help);
    }

    fn name(&self, (service, backend): (usize, usize)) -> String {
        let service = &self.models[service];
        format!("{}/{}", service.name, service.backends[backend].name)
    }
}

/// Such as "137 %".
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}
