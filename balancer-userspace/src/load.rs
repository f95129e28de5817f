//! What each server would have to take at the declared peaks: now, and after losses. Values in, values out.
//!
//! A server is an address: what stands in several services adds up, and fails in all of them at once. Shares are those of
//! the weights, which the tables keep to one slot.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::model::{Amount, Service, Services};

/// Weight that is lost, by service.
type Lost = HashMap<usize, u64>;

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

impl Amount {
    /// The lesser of each; what one does not know is the other's.
    pub fn least(self, other: Self) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        Self { new_flows: least(self.new_flows, other.new_flows), bits: least(self.bits, other.bits) }
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
    /// Servers of each service, by index, lowest first.
    servers_of: Vec<Vec<usize>>,
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
                server.capacity = server.capacity.least(backend.capacity);
                server.failure_domain = server.failure_domain.take().or_else(|| backend.failure_domain.clone());
            }
            weights.push((0..service.backends.len()).map(|number| u64::from(weight(at, number))).collect::<Vec<_>>());
        }
        let totals = weights.iter().map(|weights: &Vec<u64>| weights.iter().sum()).collect();
        let mut servers_of: Vec<Vec<usize>> = vec![Vec::new(); services.len()];
        for (at, server) in servers.iter().enumerate() {
            for (service, _) in &server.members {
                if servers_of[*service].last() != Some(&at) {
                    servers_of[*service].push(at);
                }
            }
        }
        let mut prediction = Self { services, servers, weights, totals, servers_of, now: Vec::new() };
        prediction.now =
            (0..prediction.servers.len()).map(|server| prediction.load(server, &Lost::default())).collect();
        prediction
    }

    /// Of a server, without what is lost of each service.
    fn load(&self, server: usize, lost: &Lost) -> Load {
        self.servers[server].members.iter().fold(Load::default(), |load, (service, backend)| {
            let total = self.totals[*service] - lost.get(service).copied().unwrap_or(0);
            match (self.weights[*service][*backend], total) {
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
        let mut weights = Lost::default();
        for (service, backend) in lost.iter().flat_map(|server| &self.servers[*server].members) {
            *weights.entry(*service).or_default() += self.weights[*service][*backend];
        }
        let left: BTreeSet<usize> = weights.keys().flat_map(|service| &self.servers_of[*service]).copied().collect();
        let gone: HashSet<usize> = lost.iter().copied().collect();
        let concerned = left.into_iter().filter(|server| !gone.contains(server));
        concerned.map(|server| (server, self.load(server, &weights))).collect()
    }

    /// For each server the worst that a loss of one of `groups` would bring it, and which group that is. A group is what is
    /// lost together.
    pub fn worst_of(&self, groups: &[Vec<usize>]) -> HashMap<usize, (f64, usize)> {
        let mut worst = HashMap::new();
        if self.is_known() {
            for (number, lost) in groups.iter().enumerate() {
                self.after(lost).into_iter().for_each(|(server, load)| self.note(&mut worst, server, load, number));
            }
        }
        worst
    }

    /// Each server by itself.
    pub fn single_losses(&self) -> Vec<Vec<usize>> {
        (0..self.servers.len()).map(|server| vec![server]).collect()
    }

    /// The same where groups are single servers, in less time; of losses that bring the same, it may name another.
    pub fn worst_of_one(&self) -> HashMap<usize, (f64, usize)> {
        let mut worst = HashMap::new();
        if !self.is_known() {
            return worst;
        }
        // Of the servers that are in one service only, the heavier brings the others more. So two of each service are
        // enough: the heaviest, and for that one itself the next.
        let mut heaviest: Vec<[Option<(u64, usize)>; 2]> = vec![[None; 2]; self.services.len()];
        let mut several = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            let [(service, backend)] = server.members[..] else {
                several.push(at);
                continue;
            };
            let weight = self.weights[service][backend];
            let [first, second] = &mut heaviest[service];
            if first.is_none_or(|(most, _)| most < weight) {
                (*first, *second) = (Some((weight, at)), *first);
            } else if second.is_none_or(|(most, _)| most < weight) {
                *second = Some((weight, at));
            }
        }
        for (service, heaviest) in heaviest.iter().enumerate() {
            for server in &self.servers_of[service] {
                let Some((weight, lost)) = heaviest.iter().flatten().find(|(_, lost)| lost != server) else { continue };
                let load = self.load(*server, &Lost::from([(service, *weight)]));
                self.note(&mut worst, *server, load, *lost);
            }
        }
        for lost in several {
            self.after(&[lost]).into_iter().for_each(|(server, load)| self.note(&mut worst, server, load, lost));
        }
        worst
    }

    /// Keeps the worst; of those that are equal, the first.
    fn note(&self, worst: &mut HashMap<usize, (f64, usize)>, server: usize, load: Load, lost: usize) {
        let Some(part) = load.of(self.servers[server].capacity) else { return };
        let is_worse = |(most, by): &(f64, usize)| *most < part || (*most == part && *by > lost);
        if worst.get(&server).is_none_or(is_worse) {
            worst.insert(server, (part, lost));
        }
    }

    /// Whether any load is of a known capacity.
    fn is_known(&self) -> bool {
        self.servers.iter().any(|server| server.capacity.is_known())
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

/// What the servers of one service would have to take, each with its address and capacity: as in a [`Prediction`], without
/// looking at services that share no server with it. `weights` are those of the service at an index.
pub fn of_service(
    services: &Services,
    service: usize,
    weights: impl Fn(usize) -> Vec<u32>,
) -> Vec<(IpAddr, Amount, Load)> {
    let mut known: HashMap<usize, (Vec<u32>, u64)> = HashMap::new();
    let mut of = |at: usize, backend: usize| {
        let (weights, total) = known.entry(at).or_insert_with(|| {
            let weights = weights(at);
            let total = weights.iter().map(|weight| u64::from(*weight)).sum();
            (weights, total)
        });
        (u64::from(weights[backend]), *total)
    };
    let addresses: BTreeSet<IpAddr> = services[service].backends.iter().map(|backend| backend.address).collect();
    let server = |address: IpAddr| {
        let (mut capacity, mut load) = (Amount::default(), Load::default());
        for (at, backend) in services.members(address) {
            capacity = capacity.least(services[*at].backends[*backend].capacity);
            let (weight, total) = of(*at, *backend);
            if weight > 0 && total > 0 {
                load = load.plus(services[*at].peak, weight as f64 / total as f64);
            }
        }
        (address, capacity, load)
    };
    addresses.into_iter().map(server).collect()
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
        spec::parse("f.toml", &text).unwrap_or_else(|problems| panic!("{problems}")).services.to_vec()
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
        let worst = prediction.worst_of_one();
        assert_eq!(worst[&0], (1.0, 1));
    }

    proptest! {
        /// What is found by looking at little is what looking at everything finds.
        #[test]
        fn the_short_ways_find_what_the_long_ones_find(
            services in prop::collection::vec(prop::collection::vec(0u32..1000, 1..8), 1..5),
            capacity in 1u64..3000,
        ) {
            let services = Services::from(config(&services, 1000, capacity));
            let prediction = Prediction::new(&services);
            let parts = |worst: HashMap<usize, (f64, usize)>| -> std::collections::BTreeMap<usize, f64> {
                worst.into_iter().map(|(server, (part, _))| (server, part)).collect()
            };
            let (short, long) = (prediction.worst_of_one(), prediction.worst_of(&prediction.single_losses()));
            prop_assert_eq!(parts(short), parts(long));
            let weights = |at: usize| services[at].backends.iter().map(|backend| backend.weight.get()).collect();
            for at in 0..services.len() {
                for (address, capacity, load) in of_service(&services, at, weights) {
                    let place = prediction.servers.iter().position(|server| server.address == address).unwrap();
                    prop_assert_eq!((capacity, load), (prediction.servers[place].capacity, prediction.now(place)));
                }
            }
        }
    }
}
