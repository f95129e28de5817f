//! Per-backend counters, summed over CPUs.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use balancer_common::layout::{BackendCounters, ServiceCounters};
use balancer_common::slot::{BackendIndex, GROUPS, GroupCounts};
use balancer_common::verdict::Reason;
use serde::{Deserialize, Serialize};

use super::syscall;

/// What one backend was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub packets: u64,
    /// Of IP packets as they came from clients.
    pub bytes: u64,
    pub new_flows: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            new_flows: self.new_flows + other.new_flows,
        }
    }
}

/// The maps that packets are counted in, to be read beside whoever owns the data plane.
#[derive(Debug)]
pub struct CounterMaps {
    pub(super) backends: OwnedFd,
    pub(super) services: OwnedFd,
    pub(super) drops: OwnedFd,
}

impl CounterMaps {
    /// Sums over all CPUs for the backends up to `highest`, by index.
    pub fn backends(&self, highest: BackendIndex) -> Result<Vec<Counters>> {
        read(self.backends.as_fd(), u32::from(highest) + 1)
    }

    /// Sums over all CPUs for the services up to number `highest`.
    pub fn services(&self, highest: u32) -> Result<Vec<ServiceCounters>> {
        read_services(self.services.as_fd(), highest + 1)
    }

    /// Dropped packets by reason.
    pub fn drops(&self) -> Result<BTreeMap<&'static str, u64>> {
        Ok(Reason::ALL.iter().map(|reason| reason.label()).zip(read_drops(self.drops.as_fd())?).collect())
    }
}

/// Dropped packets by reason, in the order of [`Reason::ALL`].
pub(super) fn read_drops(map: BorrowedFd<'_>) -> Result<Vec<u64>> {
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
    let mut values = vec![0u64; Reason::ALL.len() * cpus];
    syscall::read_array(map, Reason::ALL.len() as u32, &mut values).context("reading the counts of drops")?;
    Ok(values.chunks_exact(cpus).map(|per_cpu| per_cpu.iter().sum()).collect())
}

/// What all CPUs counted of one backend.
pub(super) fn sum<'a>(per_cpu: impl Iterator<Item = &'a BackendCounters>) -> Counters {
    per_cpu.fold(Counters::default(), |sum, cpu| {
        sum + Counters { packets: cpu.packets, bytes: cpu.bytes, new_flows: cpu.new_flows }
    })
}

/// The first `entries` counters of the map.
pub(super) fn read(map: BorrowedFd<'_>, entries: u32) -> Result<Vec<Counters>> {
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
    let words = size_of::<BackendCounters>() / size_of::<u64>();
    let mut values = vec![0u64; entries as usize * cpus * words];
    syscall::read_array(map, entries, &mut values).context("reading the counters")?;
    let sum = |per_cpu: &[u64]| {
        per_cpu
            .chunks_exact(words)
            .fold(Counters::default(), |sum, cpu| sum + Counters { packets: cpu[0], bytes: cpu[1], new_flows: cpu[2] })
    };
    Ok(values.chunks_exact(cpus * words).map(sum).collect())
}

/// New flows by group of the first `entries` backends.
pub(super) fn read_groups(map: BorrowedFd<'_>, entries: u32) -> Result<Vec<GroupCounts>> {
    const WORDS: usize = size_of::<GroupCounts>() / size_of::<u64>();
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
    let mut values = vec![0u64; entries as usize * cpus * WORDS];
    syscall::read_array(map, entries, &mut values).context("reading the counts of slot groups")?;
    let sum = |per_cpu: &[u64]| {
        let mut sums = [0u32; GROUPS];
        for cpu in per_cpu.chunks_exact(WORDS) {
            // Two groups to a word, in the order of memory.
            let halves = cpu.iter().flat_map(|word| {
                let bytes = word.to_ne_bytes();
                [[bytes[0], bytes[1], bytes[2], bytes[3]], [bytes[4], bytes[5], bytes[6], bytes[7]]]
            });
            sums.iter_mut().zip(halves).for_each(|(sum, half)| *sum = sum.wrapping_add(u32::from_ne_bytes(half)));
        }
        sums
    };
    Ok(values.chunks_exact(cpus * WORDS).map(sum).collect())
}

/// Counters of the first `entries` services.
pub(super) fn read_services(map: BorrowedFd<'_>, entries: u32) -> Result<Vec<ServiceCounters>> {
    const WORDS: usize = size_of::<ServiceCounters>() / size_of::<u64>();
    let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
    let mut values = vec![0u64; entries as usize * cpus * WORDS];
    syscall::read_array(map, entries, &mut values).context("reading the services' counters")?;
    let sum = |per_cpu: &[u64]| {
        let mut sums = [0u64; WORDS];
        for cpu in per_cpu.chunks_exact(WORDS) {
            sums.iter_mut().zip(cpu).for_each(|(sum, value)| *sum += value);
        }
        // SAFETY: same size, and any bytes are valid counters.
        unsafe { std::mem::transmute::<[u64; WORDS], ServiceCounters>(sums) }
    };
    Ok(values.chunks_exact(cpus * WORDS).map(sum).collect())
}
