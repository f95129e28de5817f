//! What each server would have to take at the declared peaks: now, and after losses. Values in, values out.
//!
//! A server is an address: what stands in several services adds up, and fails in all of them at once. Shares are those of
//! the weights, which the tables keep to one slot.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Amount, Service};

/// One server and where it is a backend: indices of services and of backends in them.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: IpAddr,
    pub members: Vec<(usize, usize)>,
    /// The least that any of its backends declares.
    pub capacity: Amount,
    pub failure_domain: Option<String>,
}

/// A second's worth.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    pub new_flows: f64,
    pub bits: f64,
}

impl Load {
    fn plus(self, peak: Amount, part: f64) -> Self {
        let of = |amount: Option<u64>| amount.map_or(0.0, |amount| amount as f64 * part);
        Self { new_flows: self.new_flows + of(peak.new_flows), bits: self.bits + of(peak.bits) }
    }

    /// Of the capacity, 1 being all of it: the fuller of both. `None` where nothing of it is known.
    pub fn of(self, capacity: Amount) -> Option<f64> {
        let flows = capacity.new_flows.map(|most| self.new_flows / most as f64);
        let bits = capacity.bits.map(|most| self.bits / most as f64);
        match (flows, bits) {
            (Some(flows), Some(bits)) => Some(flows.max(bits)),
            (one, other) => one.or(other),
        }
    }
}

/// Loads of all servers of a config.
#[derive(Debug, Clone)]
pub struct Prediction<'c> {
    services: &'c [Service],
    pub servers: Vec<Server>,
    /// Effective weights, by service and backend.
    weights: Vec<Vec<u64>>,
    totals: Vec<u64>,
    now: Vec<Load>,
}

impl<'c> Prediction<'c> {
    /// With the weights of the file.
    pub fn new(services: &'c [Service]) -> Self {
        Self::with(services, |service, backend| services[service].backends[backend].weight.get())
    }

    /// With these weights, by indices of service and backend.
    pub fn with(services: &'c [Service], weight: impl Fn(usize, usize) -> u32) -> Self {
        let mut places: HashMap<IpAddr, usize> = HashMap::new();
        let mut servers: Vec<Server> = Vec::new();
        let mut weights = Vec::with_capacity(services.len());
        for (at, service) in services.iter().enumerate() {
            for (number, backend) in service.backends.iter().enumerate() {
                let place = *places.entry(backend.address).or_insert(servers.len());
                if place == servers.len() {
                    servers.push(Server {
                        address: backend.address,
                        members: Vec::new(),
                        capacity: Amount::default(),
                        failure_domain: None,
                    });
                }
                let server = &mut servers[place];
                server.members.push((at, number));
                let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
                let (known, declared) = (server.capacity, backend.capacity);
                server.capacity = Amount {
                    new_flows: least(known.new_flows, declared.new_flows),
                    bits: least(known.bits, declared.bits),
                };
                server.failure_domain = server.failure_domain.take().or_else(|| backend.failure_domain.clone());
            }
            weights.push((0..service.backends.len()).map(|number| u64::from(weight(at, number))).collect::<Vec<_>>());
        }
        let totals = weights.iter().map(|weights: &Vec<u64>| weights.iter().sum()).collect();
        let mut prediction = Self { services, servers, weights, totals, now: Vec::new() };
        prediction.now =
            (0..prediction.servers.len()).map(|server| prediction.load(server, &prediction.totals)).collect();
        prediction
    }

    /// Of a server, where the backends that are left have these weights together, by service.
    fn load(&self, server: usize, totals: &[u64]) -> Load {
        self.servers[server].members.iter().fold(Load::default(), |load, (service, backend)| {
            match (self.weights[*service][*backend], totals[*service]) {
                (0, _) | (_, 0) => load,
                (weight, total) => load.plus(self.services[*service].peak, weight as f64 / total as f64),
            }
        })
    }

    pub fn now(&self, server: usize) -> Load {
        self.now[server]
    }

    /// The share of a service that a backend of it has.
    pub fn share(&self, service: usize, backend: usize) -> f64 {
        match self.totals[service] {
            0 => 0.0,
            total => self.weights[service][backend] as f64 / total as f64,
        }
    }

    /// What the servers that are left would have to take without `lost`: those that would get more.
    pub fn after(&self, lost: &[usize]) -> Vec<(usize, Load)> {
        let mut totals = self.totals.clone();
        let mut touched = Vec::new();
        for (service, backend) in lost.iter().flat_map(|server| &self.servers[*server].members) {
            totals[*service] -= self.weights[*service][*backend];
            touched.push(*service);
        }
        touched.sort_unstable();
        touched.dedup();
        let concerned = |server: &usize| {
            let members = &self.servers[*server].members;
            !lost.contains(server) && members.iter().any(|(service, _)| touched.binary_search(service).is_ok())
        };
        let servers = 0..self.servers.len();
        servers.filter(concerned).map(|server| (server, self.load(server, &totals))).collect()
    }

    /// For each server the worst that a loss of one of `groups` would bring it, and which group that is. A group is what is
    /// lost together.
    pub fn worst_of(&self, groups: &[Vec<usize>]) -> HashMap<usize, (f64, usize)> {
        let mut worst: HashMap<usize, (f64, usize)> = HashMap::new();
        for (number, lost) in groups.iter().enumerate() {
            for (server, load) in self.after(lost) {
                let Some(part) = load.of(self.servers[server].capacity) else { continue };
                if worst.get(&server).is_none_or(|(most, _)| *most < part) {
                    worst.insert(server, (part, number));
                }
            }
        }
        worst
    }

    /// Each server by itself.
    pub fn single_losses(&self) -> Vec<Vec<usize>> {
        (0..self.servers.len()).map(|server| vec![server]).collect()
    }

    /// Names of failure domains with more than one server, and these.
    pub fn domain_losses(&self) -> Vec<(String, Vec<usize>)> {
        let mut domains: std::collections::BTreeMap<&str, Vec<usize>> = std::collections::BTreeMap::new();
        for (at, server) in self.servers.iter().enumerate() {
            if let Some(domain) = &server.failure_domain {
                domains.entry(domain).or_default().push(at);
            }
        }
        let several = domains.into_iter().filter(|(_, servers)| servers.len() > 1);
        several.map(|(name, servers)| (name.to_owned(), servers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::maglev;
    use crate::spec;

    /// A service whose backends have these weights, and a capacity of so many new flows a second each.
    fn config(services: &[Vec<u32>], peak: u64, capacity: u64) -> Vec<Service> {
        let mut text = String::from("[[interface]]\nname = \"eth0\"\n");
        for (number, weights) in services.iter().enumerate() {
            text += &format!(
                "[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = {}\n\
                 forward = \"l2\"\ntable_size = 4099\n[service.peak]\nnew_flows_per_second = {peak}\n",
                1000 + number
            );
            for (at, weight) in weights.iter().enumerate() {
                text += &format!(
                    "[[service.backend]]\nname = \"b{at}\"\naddress = \"10.0.0.{}\"\nweight = {weight}\n\
                     capacity = {{ new_flows_per_second = {capacity} }}\n",
                    1 + at
                );
            }
        }
        spec::parse("f.toml", &text).unwrap_or_else(|problems| panic!("{problems}")).services
    }

    proptest! {
        /// What is predicted from weights is what the table gives, with everybody there and after each loss.
        #[test]
        fn predicted_shares_are_the_tables(weights in prop::collection::vec(0u32..1000, 1..12), lost in 0usize..12) {
            let services = config(std::slice::from_ref(&weights), 1_000_000, 1);
            for lost in [None, Some(lost).filter(|lost| *lost < weights.len())] {
                let weight = |at: usize| if lost == Some(at) { 0 } else { weights[at] };
                let prediction = Prediction::with(&services, |_, backend| weight(backend));
                let named: Vec<_> = services[0].backends.iter().enumerate()
                    .map(|(at, backend)| (backend.name.clone(), crate::model::Weight::new(weight(at)).unwrap()))
                    .collect();
                let table = maglev::build(services[0].table_size, 7, &named);
                if table.is_empty() {
                    continue;
                }
                let slots = maglev::slot_counts(&table, named.len());
                for (at, slots) in slots.iter().enumerate() {
                    let exact = prediction.share(0, at) * table.len() as f64;
                    prop_assert!((exact - f64::from(*slots)).abs() <= 1.0, "{exact} slots predicted, {slots} in the table");
                }
                if let Some(lost) = lost {
                    // The same as seen from the state before the loss.
                    let before = Prediction::new(&services);
                    for (server, load) in before.after(&[lost]) {
                        prop_assert!((load.new_flows - prediction.now(server).new_flows).abs() < 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn a_server_in_two_services_takes_both_and_fails_in_both() {
        let services = config(&[vec![100, 100], vec![100, 300]], 1000, 2000);
        let prediction = Prediction::new(&services);
        assert_eq!(prediction.now(0).new_flows, 750.0);
        assert_eq!(prediction.now(1).of(prediction.servers[1].capacity), Some(0.625));
        let worst = prediction.worst_of(&prediction.single_losses());
        assert_eq!(worst[&0], (1.0, 1));
    }
}
