//! Traffic as tests make it: clients of three kinds on the slots of a real table.

use balancer_common::slot::{BackendIndex, GROUPS, group};
use rand::Rng;

use super::skew::Sample;
use crate::maglev;
use crate::model::{TableSize, Weight};

/// How many flows a client opens; all of them fall on one slot, as under client affinity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Clients {
    Independent,
    Clustered(u32),
    /// Pareto's distribution with this exponent; below 2 its variance has no bound.
    HeavyTailed(f64),
}

/// The backends of a service and their table.
pub(crate) struct Fleet {
    owners: Vec<BackendIndex>,
    backends: usize,
}

impl Fleet {
    pub(crate) fn of(weights: &[u32]) -> Self {
        let named = |(place, weight): (usize, &u32)| {
            (format!("b{place}").parse().expect("a name"), Weight::new(*weight).expect("a weight"))
        };
        let backends: Vec<_> = weights.iter().enumerate().map(named).collect();
        let table = maglev::build(TableSize::DEFAULT, 0, &backends);
        Self { owners: table.into_iter().map(|place| place + 1).collect(), backends: weights.len() }
    }

    pub(crate) fn empty(&self) -> Vec<Sample> {
        let mut samples = vec![Sample { slots: [0; GROUPS], flows: [0; GROUPS] }; self.backends];
        for (slot, owner) in self.owners.iter().enumerate() {
            samples[usize::from(*owner) - 1].slots[group(slot as u32) as usize] += 1;
        }
        samples
    }

    /// Adds about so many flows.
    pub(crate) fn add(&self, samples: &mut [Sample], clients: Clients, flows: usize, random: &mut impl Rng) {
        let mut left = flows;
        while left > 0 {
            let slot = random.random_range(0..self.owners.len());
            let opened = match clients {
                Clients::Independent => 1,
                Clients::Clustered(each) => each as usize,
                Clients::HeavyTailed(exponent) => random.random::<f64>().powf(-1.0 / exponent) as usize,
            };
            // One client is not more than all the traffic.
            let opened = opened.clamp(1, left);
            samples[usize::from(self.owners[slot]) - 1].flows[group(slot as u32) as usize] += opened as u32;
            left -= opened;
        }
    }

    /// Adds so many independent flows on slots of the first backend.
    pub(crate) fn add_to_first(&self, samples: &mut [Sample], flows: usize, random: &mut impl Rng) {
        for _ in 0..flows {
            let slot = loop {
                let slot = random.random_range(0..self.owners.len());
                if self.owners[slot] == 1 {
                    break slot;
                }
            };
            samples[0].flows[group(slot as u32) as usize] += 1;
        }
    }

    pub(crate) fn window(&self, clients: Clients, flows: usize, random: &mut impl Rng) -> Vec<Sample> {
        let mut samples = self.empty();
        self.add(&mut samples, clients, flows, random);
        samples
    }
}
