//! Weighted Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4), exact to one slot.
//!
//! Each backend has a permutation of the slots, drawn from two hashes of its name, and takes turns to claim the next free
//! slot of it. Turns come in proportion to weights: a backend's k-th turn is at time k / weight. Turns alone are not
//! exact when many small backends stand beside a large one (at the end whole rounds go to the large one), so each
//! backend stops at its quota: its exact share, rounded by the largest remainder.
//!
//! The table depends on the seed and on the set of names and weights, never on their order.

use std::cmp::{Ordering, Reverse};
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::model::{BackendName, TableSize, Weight};

struct Claimant {
    /// Place in the caller's slice.
    place: u16,
    weight: u64,
    quota: u32,
    /// The next slot of the permutation to try, and the step to the one after.
    next: u32,
    skip: u32,
}

/// The owner of every slot, as an index into `backends`; empty when every weight is 0. At most 65,536 backends.
pub fn build(size: TableSize, seed: u64, backends: &[(BackendName, Weight)]) -> Vec<u16> {
    let slots = size.get();
    let mut claimants = claimants(u64::from(slots), seed, backends);
    if claimants.is_empty() {
        return Vec::new();
    }
    let mut table = vec![u16::MAX; slots as usize];
    let mut free = Free::new(slots);
    let mut queues = queues(&claimants);
    let (mut at_once, mut ranks) = (Vec::new(), Vec::<usize>::new());
    while let Some(first) = queues.pop() {
        at_once.push(first);
        while let Some(next) = queues.peek_mut().filter(|next| **next == at_once[0]) {
            at_once.push(PeekMut::pop(next));
        }
        ranks.clear();
        at_once.iter().for_each(|queue| ranks.extend(&queue.ranks));
        if at_once.len() > 1 {
            ranks.sort_unstable();
        }
        for rank in &ranks {
            let claimant = &mut claimants[*rank];
            table[free.claim(claimant)] = claimant.place;
        }
        for mut queue in at_once.drain(..) {
            queue.ranks.retain(|rank| u64::from(claimants[*rank].quota) > queue.number);
            queue.number += 1;
            if !queue.ranks.is_empty() {
                queues.push(queue);
            }
        }
    }
    table
}

/// Backends of one weight, which have their turns at the same times.
struct Queue {
    weight: u64,
    /// Of their next turn.
    number: u64,
    /// Those that have a turn left, in order.
    ranks: Vec<usize>,
}

fn queues(claimants: &[Claimant]) -> BinaryHeap<Queue> {
    let mut by_weight: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (rank, claimant) in claimants.iter().enumerate().filter(|(_, claimant)| claimant.quota > 0) {
        by_weight.entry(claimant.weight).or_default().push(rank);
    }
    by_weight.into_iter().map(|(weight, ranks)| Queue { weight, number: 1, ranks }).collect()
}

impl Ord for Queue {
    /// Earlier is greater: number / weight compared without rounding. Those that are equal have their turn at once, in which
    /// the backend that is first in order comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.number * self.weight).cmp(&(self.number * other.weight))
    }
}

impl PartialOrd for Queue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Queue {}

/// Slots that nobody has yet: a bit each, so that those of the default size stay in a processor's nearest cache.
struct Free {
    slots: u32,
    taken: Vec<u64>,
}

impl Free {
    fn new(slots: u32) -> Self {
        Self { slots, taken: vec![0; slots.div_ceil(u64::BITS) as usize] }
    }

    /// Walks on in the claimant's permutation to the next free slot and takes it. There is one: quotas add up to the table.
    fn claim(&mut self, claimant: &mut Claimant) -> usize {
        loop {
            let slot = claimant.next;
            // Both are below the size, which is below 2^20.
            let next = slot + claimant.skip;
            claimant.next = if next >= self.slots { next - self.slots } else { next };
            let (word, bit) = (&mut self.taken[(slot / u64::BITS) as usize], 1 << (slot % u64::BITS));
            if *word & bit == 0 {
                *word |= bit;
                return slot as usize;
            }
        }
    }
}

/// Slots of each of `backends` backends.
pub fn slot_counts(table: &[u16], backends: usize) -> Vec<u32> {
    let mut counts = vec![0; backends];
    for owner in table {
        counts[usize::from(*owner)] += 1;
    }
    counts
}

/// Backends with a weight, in an order that their names and the seed decide.
fn claimants(slots: u64, seed: u64, backends: &[(BackendName, Weight)]) -> Vec<Claimant> {
    let mut order: Vec<_> = (0u16..)
        .zip(backends)
        .filter(|(_, (_, weight))| !weight.is_zero())
        .map(|(place, (name, weight))| (hash(name, seed, 0), name, place, u64::from(weight.get())))
        .collect();
    order.sort_unstable();
    let quotas = quotas(slots, &order.iter().map(|(.., weight)| *weight).collect::<Vec<_>>());
    let claimant = |((_, name, place, weight), quota)| Claimant {
        place,
        weight,
        quota,
        next: (hash(name, seed, 1) % slots) as u32,
        // At least 1, so that the prime size makes it a permutation.
        skip: (hash(name, seed, 2) % (slots - 1).max(1) + 1) as u32,
    };
    order.into_iter().zip(quotas).map(claimant).collect()
}

fn hash(name: &BackendName, seed: u64, which: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(seed, which);
    hasher.write(name.as_str().as_bytes());
    hasher.finish()
}

/// Each weight's part of `slots`, rounded so that all add up: down, and up for the largest remainders.
fn quotas(slots: u64, weights: &[u64]) -> Vec<u32> {
    let sum: u64 = weights.iter().sum();
    let mut quotas: Vec<u32> = weights.iter().map(|weight| (slots * weight / sum) as u32).collect();
    let left = slots - quotas.iter().map(|quota| u64::from(*quota)).sum::<u64>();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|rank| Reverse(slots * weights[*rank] % sum));
    for rank in by_remainder.into_iter().take(left as usize) {
        quotas[rank] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(weights: &[u32]) -> Vec<(BackendName, Weight)> {
        let name = |i: usize| format!("b-{i}").parse().unwrap();
        weights.iter().enumerate().map(|(i, w)| (name(i), Weight::new(*w).unwrap())).collect()
    }

    fn assert_exact(size: TableSize, weights: &[u32]) {
        let table = build(size, 1, &named(weights));
        assert_eq!(table.len(), size.get() as usize);
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for (count, weight) in slot_counts(&table, weights.len()).iter().zip(weights) {
            let exact = f64::from(size.get()) * f64::from(*weight) / sum;
            assert!((f64::from(*count) - exact).abs() < 1.0, "{count} slots for {exact} of {weights:?}");
        }
    }

    /// The fraction of slots whose owner's name differs.
    fn moved(before: &[(BackendName, Weight)], after: &[(BackendName, Weight)]) -> f64 {
        let [old, new] = [before, after].map(|backends| {
            let table = build(TableSize::DEFAULT, 1, backends);
            table.into_iter().map(|place| backends[usize::from(place)].0.clone()).collect::<Vec<_>>()
        });
        old.iter().zip(&new).filter(|(a, b)| a != b).count() as f64 / old.len() as f64
    }

    #[test]
    fn the_weights_that_others_get_wrong_are_exact() {
        let mut uneven = vec![1; 999];
        uneven.push(1000);
        for weights in
            [&[1, 1000][..], &[1, 10], &[1, 1, 1, 1, 5], &[99, 100], &[1, 2, 2], &[97, 1, 1, 1], &[7, 0, 3], &uneven]
        {
            assert_exact(TableSize::DEFAULT, weights);
        }
        assert_exact(TableSize::new(TableSize::MAX).unwrap(), &[1, 1_000_000, 333_333]);
    }

    #[test]
    fn no_weight_at_all_gives_no_table() {
        assert!(build(TableSize::DEFAULT, 1, &named(&[0, 0])).is_empty());
        assert!(build(TableSize::DEFAULT, 1, &[]).is_empty());
    }

    #[test]
    fn a_change_moves_little_more_than_it_must() {
        let ten = named(&[100; 10]);
        let without_one = moved(&ten, &ten[1..]);
        assert!((0.10..0.106).contains(&without_one), "{without_one}");
        let mut halved = ten.clone();
        halved[3].1 = Weight::new(50).unwrap();
        let halved = moved(&ten, &halved);
        assert!((0.047..0.055).contains(&halved), "{halved}");
        let hundred = named(&[100; 100]);
        let of_hundred = moved(&hundred, &hundred[1..]);
        assert!((0.0099..0.02).contains(&of_hundred), "{of_hundred}");
    }

    /// Two balancers of different versions must agree, so one table is pinned.
    #[test]
    fn the_table_is_the_same_in_every_version() {
        let table = build(TableSize::DEFAULT, 42, &named(&[1, 2, 3, 4]));
        let mut digest = SipHasher24::new();
        for owner in table {
            digest.write_u16(owner);
        }
        assert_eq!(digest.finish(), 11_089_127_967_096_899_489);
    }

    /// Turn by turn, each looked for among all: slow, and as it is described.
    fn build_slowly(size: TableSize, seed: u64, backends: &[(BackendName, Weight)]) -> Vec<u16> {
        let slots = u64::from(size.get());
        let mut claimants: Vec<(Claimant, u64)> =
            claimants(slots, seed, backends).into_iter().map(|claimant| (claimant, 0)).collect();
        let mut table = vec![u16::MAX; if claimants.is_empty() { 0 } else { slots as usize }];
        for _ in 0..table.len() {
            let left = claimants.iter_mut().filter(|(claimant, turns)| u64::from(claimant.quota) > *turns);
            // The first of those that are equal.
            let (claimant, turns) = left
                .min_by(|(a, turns_a), (b, turns_b)| ((turns_a + 1) * b.weight).cmp(&((turns_b + 1) * a.weight)))
                .unwrap();
            *turns += 1;
            loop {
                let slot = claimant.next as usize;
                claimant.next = ((u64::from(claimant.next) + u64::from(claimant.skip)) % slots) as u32;
                if table[slot] == u16::MAX {
                    table[slot] = claimant.place;
                    break;
                }
            }
        }
        table
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Turns that fall together, of few weights and of many, are the same as one by one.
        #[test]
        fn the_short_way_builds_the_table_of_the_long_one(
            weights in prop::collection::vec(prop_oneof![Just(0u32), Just(100), 1..4u32, 1..=1_000_000u32], 1..60),
            size in prop::sample::select(vec![2u32, 3, 101, 1021, 4099]),
            seed: u64,
        ) {
            let (size, backends) = (TableSize::new(size).unwrap(), named(&weights));
            prop_assert_eq!(build(size, seed, &backends), build_slowly(size, seed, &backends));
        }

        #[test]
        fn every_share_is_exact_to_one_slot(
            weights in prop::collection::vec(prop_oneof![Just(0u32), 1..4u32, 1..1000u32, 1..=1_000_000u32], 1..200),
            size in prop::sample::select(vec![2u32, 101, 1021, 16_381, 65_537]),
        ) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            assert_exact(TableSize::new(size).unwrap(), &weights);
        }

        #[test]
        fn order_does_not_matter(
            weights in prop::collection::vec(0..50u32, 1..40),
            seed: u64,
            shuffle: u64,
        ) {
            let backends = named(&weights);
            let mut shuffled = backends.clone();
            shuffled.sort_by_key(|(name, _)| hash(name, shuffle, 9));
            let size = TableSize::new(1021).unwrap();
            let names = |of: &[(BackendName, Weight)]| {
                build(size, seed, of).into_iter().map(|place| of[usize::from(place)].0.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(names(&backends), names(&shuffled));
        }
    }
}
