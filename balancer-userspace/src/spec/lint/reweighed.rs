//! The part of linting that weights decide, for the services whose weights change and what they have in common with others:
//! its cost is that of these services, however many more there are.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{Host, Kind, Lint, alike, loads, services, weights};
use crate::load::Prediction;
use crate::model::{Backend, Config, Service, Weight};
use crate::spec::Written;
use crate::spec::diagnostic::{Diagnostic, Problems};

/// Services whose weights may be others than the file's, with those that share a server with them.
pub struct Concerned {
    /// Numbers in the config, and whether the weights of the service may be others.
    services: Vec<(usize, bool)>,
    /// Addresses of backends of the services whose weights may be others.
    servers: HashSet<IpAddr>,
    /// Failure domains of servers that are in none of the services.
    domains_elsewhere: HashSet<String>,
}

/// The findings about them.
pub struct Reweighing<'c> {
    written: &'c Written,
    config: &'c Config,
    text: &'c str,
    concerned: &'c Concerned,
}

impl Concerned {
    /// `changed` says which services may have other weights.
    pub fn of(config: &Config, changed: impl Fn(&Service) -> bool) -> Self {
        let may_differ: Vec<bool> = config.services.iter().map(changed).collect();
        let changed = config.services.iter().zip(&may_differ).filter(|(_, differs)| **differs);
        let servers: HashSet<IpAddr> =
            changed.flat_map(|(service, _)| service.backends.iter().map(|backend| backend.address)).collect();
        let concerned = |at: &usize| {
            may_differ[*at] || config.services[*at].backends.iter().any(|backend| servers.contains(&backend.address))
        };
        let numbers = (0..config.services.len()).filter(|at| !servers.is_empty() && concerned(at));
        let services: Vec<(usize, bool)> = numbers.map(|at| (at, may_differ[at])).collect();
        let domains_elsewhere = domains_elsewhere(config, &services);
        Self { services, servers, domains_elsewhere }
    }
}

fn domains_elsewhere(config: &Config, services: &[(usize, bool)]) -> HashSet<String> {
    let here = services.iter().flat_map(|(at, _)| &config.services[*at].backends);
    if here.clone().all(|backend| backend.failure_domain.is_none()) {
        return HashSet::new();
    }
    let here: HashSet<IpAddr> = here.map(|backend| backend.address).collect();
    let all = config.services.iter().flat_map(|service| &service.backends);
    all.filter(|backend| !here.contains(&backend.address))
        .filter_map(|backend| backend.failure_domain.clone())
        .collect()
}

impl Written {
    /// `text` is what `config` was read from.
    pub fn reweighing<'c>(&'c self, config: &'c Config, text: &'c str, concerned: &'c Concerned) -> Reweighing<'c> {
        Reweighing { written: self, config, text, concerned }
    }
}

impl Reweighing<'_> {
    /// What is found with these weights, of what they decide.
    pub fn findings(&self, weight: impl Fn(&Service, &Backend) -> Weight) -> Vec<Diagnostic> {
        let models: Vec<Service> = self.concerned.services.iter().map(|(at, _)| self.reweighed(*at, &weight)).collect();
        let problems = Problems::with_lines(&self.written.file, self.text, &self.written.lines);
        let prediction = Prediction::new(&models);
        let lint = Lint {
            models: &models,
            places: self.concerned.services.iter().map(|(at, _)| &self.written.places[*at]).collect(),
            judged: self.concerned.services.iter().map(|(_, judged)| *judged).collect(),
            domains_elsewhere: &self.concerned.domains_elsewhere,
            node: &self.config.node,
            interfaces: &self.config.interfaces,
            host: &Host::default(),
            prediction: &prediction,
            problems: &problems,
        };
        if models.iter().any(|service| service.peak.is_known()) {
            loads::check(&lint);
        }
        weights::check(&lint);
        services::weights(&lint);
        alike::sites(&lint);
        problems.silence(&self.written.silences);
        problems.into_diagnostics().findings
    }

    /// The findings `before`, those that weights decide replaced by what is found with other weights.
    pub fn replaced(&self, mut before: Vec<Diagnostic>, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
        before.retain(|finding| !self.decides(finding));
        before.extend(found);
        before.sort_by_key(|finding| (finding.line, finding.column));
        before
    }

    fn reweighed(&self, at: usize, weight: impl Fn(&Service, &Backend) -> Weight) -> Service {
        let service = &self.config.services[at];
        let mut other = service.clone();
        for (there, backend) in other.backends.iter_mut().zip(&service.backends) {
            there.weight = weight(service, backend);
        }
        other
    }

    /// Whether the weights of these services decide a finding.
    fn decides(&self, finding: &Diagnostic) -> bool {
        let (Some(name), backend) = finding.about() else { return false };
        let named = |(at, _): &&(usize, bool)| self.config.services[*at].name.as_str() == name;
        let Some((at, judged)) = self.concerned.services.iter().find(named) else { return false };
        let is = |kinds: &[Kind]| kinds.iter().any(|kind| kind.id() == finding.id);
        match backend {
            Some(backend) if is(OF_SERVERS) => {
                let backends = &self.config.services[*at].backends;
                backends
                    .iter()
                    .any(|there| there.name.as_str() == backend && self.concerned.servers.contains(&there.address))
            }
            // Of a service: the one about sites; of a backend it is about servers.
            None if is(&[Kind::Unequal]) => true,
            _ => *judged && is(OF_SERVICES),
        }
    }
}

const OF_SERVERS: &[Kind] = &[Kind::Overload, Kind::OverloadAfterLoss, Kind::OverloadAfterDomain, Kind::NearLimit];
const OF_SERVICES: &[Kind] = &[
    Kind::UnexplainedWeights,
    Kind::UnusedCapacity,
    Kind::Resolution,
    Kind::LargeShare,
    Kind::FewBackends,
    Kind::AllZero,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::spec;

    /// Three services with peaks: one by itself, and two sites on one address that share their servers.
    fn text(weights: &[u32]) -> String {
        let mut text = String::from("[[interface]]\nname = \"eth0\"\n");
        for (number, (address, servers)) in [(1, 10), (2, 20), (2, 20)].into_iter().enumerate() {
            text += &format!(
                "[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.{address}\"\nport = {}\n\
                 forward = \"l2\"\n[service.peak]\nnew_flows_per_second = 1000\n",
                80 + number
            );
            for at in 0..3 {
                let (server, weight) = (servers + at, weights[number * 3 + at]);
                text += &format!(
                    "[[service.backend]]\nname = \"b{at}\"\naddress = \"10.0.0.{server}\"\nweight = {weight}\n\
                     failure_domain = \"rack-{}\"\ncapacity = {{ new_flows_per_second = {} }}\n",
                    at / 2,
                    900 + 100 * at
                );
            }
        }
        text
    }

    fn loaded(weights: &[u32]) -> spec::Loaded {
        spec::read("f.toml", text(weights), Path::new("")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What does not say where it stands: another weight is as long as another text.
    fn said(findings: &[Diagnostic]) -> Vec<(&str, Option<&str>, &str)> {
        let mut said: Vec<_> = findings.iter().map(|f| (f.id, f.subject.as_deref(), f.message.as_str())).collect();
        said.sort_unstable();
        said
    }

    proptest! {
        /// Judging only what a change concerns finds what judging everything finds.
        #[test]
        fn a_part_finds_what_the_whole_does(
            before in prop::collection::vec(prop::sample::select(vec![0u32, 1, 90, 100, 900]), 9),
            after in prop::collection::vec(prop::sample::select(vec![0u32, 1, 90, 100, 900]), 9),
            changed in 0usize..3,
        ) {
            let mixed: Vec<u32> = (0..9).map(|at| if at / 3 == changed { after[at] } else { before[at] }).collect();
            let (old, new) = (loaded(&before), loaded(&mixed));
            let name = format!("s{changed}");
            let concerned = Concerned::of(&old.config, |service| service.name.as_str() == name);
            let part = old.written.reweighing(&old.config, &old.text, &concerned);
            let weight = |service: &Service, backend: &Backend| {
                let at = |name: &str| usize::from(name.as_bytes()[1] - b'0');
                Weight::new(mixed[at(service.name.as_str()) * 3 + at(backend.name.as_str())]).unwrap()
            };
            let found = part.replaced(old.findings(&Host::default()).findings, part.findings(weight));
            let whole = new.findings(&Host::default()).findings;
            prop_assert_eq!(said(&found), said(&whole));
        }
    }
}
