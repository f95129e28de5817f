//! Weighted Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4), exact to one slot.
//!
//! Each backend has a permutation of the slots, drawn from two hashes of its name, and takes turns to claim the next free
//! slot of it. Turns come in proportion to weights: a backend's k-th turn is at time k / weight. Turns alone are not
//! exact when many small backends stand beside a large one (at the end whole rounds go to the large one), so each
//! backend stops at its quota: its exact share, rounded by the largest remainder.
//!
//! The table depends on the seed and on the set of names and weights, never on their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::model::{BackendName, TableSize, Weight};

struct Claimant {
    /// Place in the caller's slice.
    place: u16,
    weight: u64,
    quota: u32,
    /// The next slot of the permutation to try, and the step to the one after.
    next: u64,
    skip: u64,
}

/// The owner of every slot, as an index into `backends`; empty when every weight is 0. At most 65,536 backends.
pub fn build(size: TableSize, seed: u64, backends: &[(BackendName, Weight)]) -> Vec<u16> {
    let slots = u64::from(size.get());
    let mut claimants = claimants(slots, seed, backends);
    if claimants.is_empty() {
        return Vec::new();
    }
    let mut table = vec![u16::MAX; slots as usize];
    let mut taken = vec![false; slots as usize];
    let mut turns: BinaryHeap<Turn> = (0..claimants.len())
        .filter(|rank| claimants[*rank].quota > 0)
        .map(|rank| Turn { number: 1, weight: claimants[rank].weight, rank })
        .collect();
    while let Some(mut turn) = turns.peek_mut() {
        let claimant = &mut claimants[turn.rank];
        let slot = claim(claimant, &mut taken, slots);
        table[slot] = claimant.place;
        if turn.number == u64::from(claimant.quota) {
            std::collections::binary_heap::PeekMut::pop(turn);
        } else {
            turn.number += 1;
        }
    }
    table
}

/// Slots of each of `backends` backends.
pub fn slot_counts(table: &[u16], backends: usize) -> Vec<u32> {
    let mut counts = vec![0; backends];
    for owner in table {
        counts[usize::from(*owner)] += 1;
    }
    counts
}

/// Walks on in the permutation to the next free slot and takes it. There is one: quotas add up to the table.
fn claim(claimant: &mut Claimant, taken: &mut [bool], slots: u64) -> usize {
    loop {
        let slot = claimant.next as usize;
        claimant.next = (claimant.next + claimant.skip) % slots;
        if !taken[slot] {
            taken[slot] = true;
            return slot;
        }
    }
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
        next: hash(name, seed, 1) % slots,
        // At least 1, so that the prime size makes it a permutation.
        skip: hash(name, seed, 2) % (slots - 1).max(1) + 1,
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

/// The `number`-th turn of a backend; the greatest comes first.
struct Turn {
    number: u64,
    weight: u64,
    rank: usize,
}

impl Ord for Turn {
    /// Earlier is greater: number / weight compared without rounding, and among equals the backend that is first in
    /// order.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.number * self.weight).cmp(&(self.number * other.weight)).then(other.rank.cmp(&self.rank))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn {}

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

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
