//! What share of new connections each of IPVS's schedulers really gives a server.
//!
//! Facts from ipvsadm(8) and the kernel's documentation; each was held against IPVS itself, see `tests/kernels`.

use std::fmt;

/// Buckets of the `sh` table (`CONFIG_IP_VS_SH_TAB_BITS`, 8 everywhere).
const SH_BUCKETS: u32 = 256;
/// Entries of the `mh` table (`CONFIG_IP_VS_MH_TAB_INDEX`, 12 where nobody chose another).
const MH_ENTRIES: u64 = 4093;
/// Weights of `mh` are cut to this many bits (half of `CONFIG_IP_VS_MH_TAB_INDEX`).
const MH_WEIGHT_BITS: u32 = 6;

/// A scheduler by its name in ipvsadm(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    WeightedLeastConnections,
    ShortestDelay,
    NeverQueue,
    SourceHash,
    Maglev,
    DestinationHash,
    /// `lblc` and `lblcr`.
    Locality,
    Failover,
    Overflow,
    /// `twos`.
    TwoChoices,
}

use Scheduler::*;

/// Every scheduler with its name.
const NAMES: [(&str, Scheduler); 14] = [
    ("rr", RoundRobin),
    ("wrr", WeightedRoundRobin),
    ("lc", LeastConnections),
    ("wlc", WeightedLeastConnections),
    ("sed", ShortestDelay),
    ("nq", NeverQueue),
    ("sh", SourceHash),
    ("mh", Maglev),
    ("dh", DestinationHash),
    ("lblc", Locality),
    ("lblcr", Locality),
    ("fo", Failover),
    ("ovf", Overflow),
    ("twos", TwoChoices),
];

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, scheduler)| scheduler == self).map_or("", |(name, _)| name))
    }
}

impl Scheduler {
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, scheduler)| *scheduler)
    }

    /// Whether weights only say who takes connections at all.
    pub fn ignores_weights(self) -> bool {
        matches!(self, RoundRobin | LeastConnections)
    }

    /// Whether it goes by the client's address, as long as nothing says that ports count as well.
    pub fn by_source(self) -> bool {
        matches!(self, SourceHash | Maglev)
    }

    /// What is different here; none where shares are those of the weights there, too.
    pub fn remark(self) -> Option<&'static str> {
        Some(match self {
            WeightedRoundRobin | Maglev => return None,
            RoundRobin => "rr gives every server the same, so all weights here are 1",
            LeastConnections => "goes by open connections; here all weights are 1",
            WeightedLeastConnections => "goes by open connections and weights; here weights alone count",
            ShortestDelay | NeverQueue => "goes by open connections and weights; here weights alone count",
            TwoChoices => "goes by open connections and weights; here weights alone count",
            SourceHash => "spreads 256 buckets in turn; here shares are exact to one slot",
            DestinationHash | Locality => "goes by destination: one address, one server; here weights count",
            Failover => "all to the server of the highest weight; here all of them get their share",
            Overflow => "one server after the other is filled; here all of them get their share",
        })
    }

    /// The weight that gives a server here what the scheduler gives it there, as far as weights can.
    pub fn weight(self, weight: u32) -> u32 {
        if self.ignores_weights() { weight.min(1) } else { weight }
    }
}

/// Shares of new connections.
#[derive(Debug, Clone, PartialEq)]
pub enum Programmed {
    /// By server; `lost` is the part that nobody gets.
    Exact { shares: Vec<f64>, lost: f64 },
    /// It depends on this.
    Unknown(&'static str),
}

/// The shares that IPVS programs for servers of these weights, in the order of `ipvsadm -a`.
pub fn programmed(scheduler: Scheduler, weights: &[u32]) -> Programmed {
    match scheduler {
        RoundRobin => by_weight(&weights.iter().map(|weight| (*weight).min(1)).collect::<Vec<_>>()),
        WeightedRoundRobin => by_weight(weights),
        SourceHash => source_hash(weights),
        Maglev => maglev(weights),
        Failover => failover(weights),
        DestinationHash | Locality => Programmed::Unknown("all go to one server, by the address of the service"),
        Overflow => Programmed::Unknown("depends on how many connections are open"),
        LeastConnections | WeightedLeastConnections | ShortestDelay | NeverQueue | TwoChoices => {
            Programmed::Unknown("depends on the connections that are open")
        }
    }
}

fn exact(counts: &[u64], lost: u64) -> Programmed {
    let all = (counts.iter().sum::<u64>() + lost).max(1) as f64;
    let nobody = counts.iter().all(|count| *count == 0);
    let shares = counts.iter().map(|count| *count as f64 / all).collect();
    Programmed::Exact { shares, lost: if nobody { 1.0 } else { lost as f64 / all } }
}

fn by_weight(weights: &[u32]) -> Programmed {
    exact(&weights.iter().map(|weight| u64::from(*weight)).collect::<Vec<_>>(), 0)
}

fn failover(weights: &[u32]) -> Programmed {
    let highest = weights.iter().copied().max().unwrap_or(0);
    // Of equals, the one that the kernel's list has first: a new server is put at its head.
    let first = weights.iter().rposition(|weight| *weight == highest && highest > 0);
    exact(&(0..weights.len()).map(|i| u64::from(Some(i) == first)).collect::<Vec<_>>(), 0)
}

/// Each server in turn gets as many buckets as its weight, one at least, until there are no more. The bucket of a server of
/// weight 0 gives its clients nothing.
fn source_hash(weights: &[u32]) -> Programmed {
    let (mut counts, mut lost, mut left) = (vec![0; weights.len()], 0, SH_BUCKETS);
    while left > 0 && !weights.is_empty() {
        for (i, weight) in weights.iter().enumerate().rev() {
            let got = (*weight).max(1).min(left);
            left -= got;
            *(if *weight == 0 { &mut lost } else { &mut counts[i] }) += u64::from(got);
        }
    }
    exact(&counts, lost)
}

/// In each round a server takes as many entries as its weight, divided by what divides all weights and cut to six bits.
fn maglev(weights: &[u32]) -> Programmed {
    let divisor = weights.iter().filter(|weight| **weight > 0).copied().reduce(gcd).unwrap_or(1);
    let largest = weights.iter().copied().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(MH_WEIGHT_BITS);
    let turns: Vec<u64> = weights
        .iter()
        .map(|weight| if *weight == 0 { 0 } else { u64::from((weight / divisor) >> shift).max(1) })
        .collect();
    let (mut counts, mut left) = (vec![0; weights.len()], MH_ENTRIES);
    while left > 0 && turns.iter().any(|turns| *turns > 0) {
        for (i, turns) in turns.iter().enumerate().rev() {
            let got = (*turns).min(left);
            left -= got;
            counts[i] += got;
        }
    }
    exact(&counts, 0)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(scheduler: &str, weights: &[u32]) -> (Vec<f64>, f64) {
        match programmed(Scheduler::named(scheduler).unwrap(), weights) {
            Programmed::Exact { shares, lost } => (shares, lost),
            unknown => panic!("{unknown:?}"),
        }
    }

    #[test]
    fn every_scheduler_has_its_name() {
        for (name, scheduler) in NAMES.iter().filter(|(name, _)| *name != "lblcr") {
            assert_eq!(scheduler.to_string(), *name);
        }
        assert_eq!(Scheduler::named("roulette"), None);
    }

    #[test]
    fn round_robin_knows_weights_only_where_it_is_weighted() {
        assert_eq!(shares("rr", &[9, 1, 0]), (vec![0.5, 0.5, 0.0], 0.0));
        assert_eq!(shares("wrr", &[9, 1, 0]), (vec![0.9, 0.1, 0.0], 0.0));
        assert_eq!(shares("wrr", &[0, 0]), (vec![0.0, 0.0], 1.0));
    }

    #[test]
    fn source_hashing_gives_whole_weights_until_the_buckets_are_gone() {
        // The last of three servers of weight 100 that was added is the first of the list.
        let (got, lost) = shares("sh", &[100, 100, 100]);
        assert_eq!(got, [56.0 / 256.0, 100.0 / 256.0, 100.0 / 256.0]);
        assert_eq!(lost, 0.0);
        assert_eq!(shares("sh", &[1000, 1000]).0, [0.0, 1.0]);
        let (got, lost) = shares("sh", &[1, 0]);
        assert_eq!((got, lost), (vec![0.5, 0.0], 0.5));
    }

    #[test]
    fn maglev_cuts_weights_to_six_bits() {
        let (got, _) = shares("mh", &[100, 1]);
        assert!((got[1] - 1.0 / 51.0).abs() < 0.001, "{got:?}");
        let (got, _) = shares("mh", &[300, 100, 0]);
        assert!((got[0] - 0.75).abs() < 0.001 && got[2] == 0.0, "{got:?}");
    }

    #[test]
    fn failover_sends_all_to_the_highest_weight() {
        assert_eq!(shares("fo", &[1, 5, 3]).0, [0.0, 1.0, 0.0]);
    }
}
