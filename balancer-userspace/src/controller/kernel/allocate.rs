//! Which place in the kernel's maps belongs to whom.

use std::collections::BTreeSet;

use balancer_common::slot::BackendIndex;
use ipnet::IpNet;

use crate::model::{Backend, ForwardMode, Node, Service};
use crate::state::Allocations;

/// Free places, lowest first.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    used: BTreeSet<u32>,
    /// The lowest place that may be free.
    from: u32,
    end: u32,
}

impl Pool {
    /// Places `first..end`, of which `used` are taken.
    pub(crate) fn new(first: u32, end: u32, used: impl IntoIterator<Item = u32>) -> Self {
        Self { used: used.into_iter().collect(), from: first, end }
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        let place = (self.from..self.end).find(|place| !self.used.contains(place))?;
        self.used.insert(place);
        self.from = place + 1;
        Some(place)
    }

    pub(crate) fn give_back(&mut self, place: u32) {
        self.used.remove(&place);
        self.from = self.from.min(place);
    }

    /// The highest place in use.
    pub(crate) fn highest(&self) -> u32 {
        self.used.last().copied().unwrap_or(0)
    }

    pub(crate) fn in_use(&self) -> usize {
        self.used.len()
    }
}

/// Places of backends and numbers of services.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    pub(crate) backends: Pool,
    pub(crate) services: Pool,
}

impl Pools {
    pub(crate) fn new(limits: &crate::model::Limits, taken: &Allocations) -> Self {
        let leaving = taken.leaving.iter().map(|left| left.allocated.index);
        let indices = taken.backends.values().map(|allocated| allocated.index).chain(leaving);
        Self {
            // 0 is no backend.
            backends: Pool::new(1, limits.backends + 1, indices.map(u32::from)),
            services: Pool::new(0, limits.services, taken.services.values().map(|number| u32::from(*number))),
        }
    }
}

/// What makes a backend another one to the kernel: its entry is then written to a new place, so that no packet sees half
/// of the old and half of the new.
pub(crate) fn identity(service: &Service, backend: &Backend, node: &Node) -> String {
    let Backend { address, port, .. } = backend;
    match service.forward {
        ForwardMode::L2 => format!("l2 {address}"),
        ForwardMode::Nat => format!("nat {address} {port}"),
        ForwardMode::Ipip if address.is_ipv4() => format!("ipip {address} {}", node.encap_source_v4),
        ForwardMode::Ipip => format!("ipip {address} {}", node.encap_source_v6),
        ForwardMode::Gue => {
            let source: IpNet =
                if address.is_ipv4() { node.encap_source_v4.into() } else { node.encap_source_v6.into() };
            format!("gue {address} {source} {} {}", service.gue.variant, service.gue.port)
        }
    }
}

/// An index out of the pool of backends.
pub(crate) fn index(place: u32) -> BackendIndex {
    BackendIndex::try_from(place).unwrap_or(BackendIndex::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_lowest_first_and_given_again() {
        let mut pool = Pool::new(1, 4, [2]);
        assert_eq!([pool.take(), pool.take(), pool.take()], [Some(1), Some(3), None]);
        pool.give_back(2);
        assert_eq!((pool.take(), pool.highest(), pool.in_use()), (Some(2), 3, 3));
    }
}
