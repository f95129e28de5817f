//! What each backend would have got of recorded traffic under another config: now, and after losses. Values in, values out.
//!
//! A flow keeps its group of slots under any weights, so a backend gets of a group's new flows the part that it has of the
//! group's slots. Weights are those of the config, and every backend is up that is not lost.

use std::collections::{BTreeMap, HashMap};

use balancer_common::slot::{GROUPS, group};

use super::record::{Flows, Record};
use crate::load::{Prediction, Server};
use crate::maglev;
use crate::model::{Service, ServiceName, Weight};
use crate::plan::mapping;

/// When a record is of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// In seconds since the Unix epoch.
    pub start: u64,
    pub seconds: f64,
}

/// The most of a series.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Peak {
    /// New flows a second.
    pub rate: f64,
    /// Which of the intervals it is in, the first of several.
    pub interval: usize,
}

impl Peak {
    pub fn of(rates: impl IntoIterator<Item = (usize, f64)>) -> Self {
        rates.into_iter().fold(
            Self::default(),
            |most, (interval, rate)| {
                if rate > most.rate { Self { rate, interval } } else { most }
            },
        )
    }
}

/// Of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Peaks {
    /// Of each backend that it is, in the order of [`Server::members`].
    pub members: Vec<Peak>,
    /// Of all of them together, which need not peak at the same time.
    pub whole: Peak,
}

/// Servers that are lost together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The failure domain, where it is one.
    pub domain: Option<String>,
    /// Indices into [`Replay::servers`].
    pub servers: Vec<usize>,
}

/// New flows a second of a service by group, in an interval in which it had any.
#[derive(Debug)]
struct Traffic {
    interval: usize,
    rates: [f64; GROUPS],
}

/// Of each group's slots, the part that a backend has; by backend.
type Parts = Vec<[f64; GROUPS]>;

/// Recorded traffic on a config.
pub struct Replay<'c> {
    services: &'c [Service],
    seed: u64,
    prediction: Prediction<'c>,
    pub intervals: Vec<Interval>,
    /// By service.
    traffic: Vec<Vec<Traffic>>,
    parts: Vec<Parts>,
    /// Servers of each service.
    members: Vec<Vec<usize>>,
    /// By service, the intervals whose flows had other slots than this config gives them: what they brought is spread evenly
    /// over all slots.
    pub spread: Vec<usize>,
    /// Services that the records know and the config does not, with their new flows.
    pub strangers: BTreeMap<ServiceName, u64>,
}

impl<'c> Replay<'c> {
    pub fn new(services: &'c [Service], seed: u64, records: &[Record]) -> Self {
        let prediction = Prediction::new(services);
        let mut members = vec![Vec::new(); services.len()];
        for (number, server) in prediction.servers.iter().enumerate() {
            server.members.iter().for_each(|(service, _)| members[*service].push(number));
        }
        let mut replay = Self {
            services,
            seed,
            prediction,
            intervals: Vec::with_capacity(records.len()),
            traffic: services.iter().map(|_| Vec::new()).collect(),
            parts: services.iter().map(|service| parts(service, seed, &[])).collect(),
            members,
            spread: vec![0; services.len()],
            strangers: BTreeMap::new(),
        };
        replay.take_in(records);
        replay
    }

    fn take_in(&mut self, records: &[Record]) {
        let places: HashMap<&ServiceName, usize> =
            self.services.iter().enumerate().map(|(at, service)| (&service.name, at)).collect();
        let mappings: Vec<u32> = self.services.iter().map(|service| mapping(service, self.seed)).collect();
        for (interval, record) in records.iter().enumerate() {
            let seconds = f64::from(record.millis.max(1)) / 1000.0;
            self.intervals.push(Interval { start: record.start, seconds });
            for flows in &record.services {
                let Some(at) = places.get(&flows.service).copied() else {
                    *self.strangers.entry(flows.service.clone()).or_default() += total(flows);
                    continue;
                };
                let known = flows.mapping == mappings[at];
                self.spread[at] += usize::from(!known);
                let counts = if known {
                    flows.groups.map(f64::from)
                } else {
                    let slots = self.services[at].table_size.get();
                    std::array::from_fn(|group| {
                        total(flows) as f64 * f64::from(slots_of(group, slots)) / f64::from(slots)
                    })
                };
                self.traffic[at].push(Traffic { interval, rates: counts.map(|count| count / seconds) });
            }
        }
    }

    pub fn servers(&self) -> &[Server] {
        &self.prediction.servers
    }

    /// Whether the records have anything of a service.
    pub fn has_traffic(&self, service: usize) -> bool {
        !self.traffic[service].is_empty()
    }

    /// New flows a second of a whole service at most.
    pub fn peak(&self, service: usize) -> Peak {
        Peak::of(self.traffic[service].iter().map(|traffic| (traffic.interval, traffic.rates.iter().sum())))
    }

    /// What may be lost: each server that gets anything, and each failure domain of several.
    pub fn losses(&self) -> Vec<Loss> {
        let weighs = |server: &Server| {
            let weight = |(service, backend): &(usize, usize)| self.services[*service].backends[*backend].weight;
            server.members.iter().any(|member| !weight(member).is_zero())
        };
        let singles = self.prediction.single_losses().into_iter().filter(|loss| weighs(&self.servers()[loss[0]]));
        let singles = singles.map(|servers| Loss { domain: None, servers });
        let domains = self.prediction.domain_losses().into_iter();
        singles.chain(domains.map(|(name, servers)| Loss { domain: Some(name), servers })).collect()
    }

    /// Whether a loss takes anything from a service.
    pub fn touches(&self, loss: &Loss, service: usize) -> bool {
        let mut members = loss.servers.iter().flat_map(|server| &self.servers()[*server].members);
        members.any(|(there, _)| *there == service)
    }

    /// What a server gets with everybody there.
    pub fn now(&self, server: usize) -> Peaks {
        self.peaks(server, &HashMap::new())
    }

    /// What the servers that are left get without those of `loss`, where that changes anything.
    pub fn without(&self, loss: &Loss) -> Vec<(usize, Peaks)> {
        let mut lost: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (service, backend) in loss.servers.iter().flat_map(|server| &self.servers()[*server].members) {
            lost.entry(*service).or_default().push(*backend);
        }
        let table =
            |(service, lost): (&usize, &Vec<usize>)| (*service, parts(&self.services[*service], self.seed, lost));
        let changed: HashMap<usize, Parts> = lost.iter().map(table).collect();
        let mut concerned: Vec<usize> = lost.keys().flat_map(|service| self.members[*service].clone()).collect();
        concerned.sort_unstable();
        concerned.dedup();
        concerned.retain(|server| !loss.servers.contains(server));
        concerned.into_iter().map(|server| (server, self.peaks(server, &changed))).collect()
    }

    /// `changed` has the tables that are not those of the config.
    fn peaks(&self, server: usize, changed: &HashMap<usize, Parts>) -> Peaks {
        let mut whole = vec![0.0; self.intervals.len()];
        let members = self.servers()[server].members.iter().map(|(service, backend)| {
            let parts = &changed.get(service).unwrap_or(&self.parts[*service])[*backend];
            Peak::of(self.traffic[*service].iter().map(|Traffic { interval, rates }| {
                let rate = rates.iter().zip(parts).map(|(rate, part)| rate * part).sum();
                whole[*interval] += rate;
                (*interval, rate)
            }))
        });
        Peaks { members: members.collect(), whole: Peak::of(whole.into_iter().enumerate()) }
    }
}

/// New flows of all groups.
fn total(flows: &Flows) -> u64 {
    flows.groups.iter().map(|count| u64::from(*count)).sum()
}

/// Slots of a group in a table of so many.
fn slots_of(group: usize, slots: u32) -> u32 {
    slots / GROUPS as u32 + u32::from((group as u32) < slots % GROUPS as u32)
}

/// The table of a service without the backends `lost`.
fn parts(service: &Service, seed: u64, lost: &[usize]) -> Parts {
    let weight = |at: usize, weight| if lost.contains(&at) { Weight::ZERO } else { weight };
    let backends = service.backends.iter().enumerate();
    let weighted: Vec<_> = backends.map(|(at, backend)| (backend.name.clone(), weight(at, backend.weight))).collect();
    let mut parts: Parts = vec![[0.0; GROUPS]; weighted.len()];
    for (slot, owner) in (0..).zip(maglev::build(service.table_size, seed, &weighted)) {
        parts[usize::from(owner)][group(slot) as usize] += 1.0;
    }
    for part in &mut parts {
        for (number, slots) in part.iter_mut().enumerate() {
            *slots /= f64::from(slots_of(number, service.table_size.get()).max(1));
        }
    }
    parts
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
