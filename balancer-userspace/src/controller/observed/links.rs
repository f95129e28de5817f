//! This host's own links. What can't be reached because one of them is down, or has just come up, says nothing about any
//! backend: next hops and health stay as they were.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::neighbor::Reachability;

/// After a link comes up, neighbours need this long to be found again.
const SETTLING: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct OwnLinks {
    /// By name, since when.
    down: HashMap<String, Instant>,
    risen: HashMap<String, Instant>,
}

impl OwnLinks {
    pub(crate) fn note(&mut self, name: &str, up: bool, now: Instant) {
        if !up {
            self.risen.remove(name);
            self.down.entry(name.to_owned()).or_insert(now);
        } else if self.down.remove(name).is_some() {
            self.risen.insert(name.to_owned(), now);
        }
        self.risen.retain(|_, at| now.duration_since(*at) < SETTLING);
    }

    /// Why what is beyond this interface can't be judged now.
    pub(crate) fn fault(&self, name: &str, now: Instant) -> Option<String> {
        if self.is_down(name) {
            return Some(format!("interface {name} is down or has no carrier"));
        }
        let risen = self.risen.get(name).filter(|at| now.duration_since(**at) < SETTLING);
        risen.map(|_| format!("interface {name} has just come up"))
    }

    pub(crate) fn is_down(&self, name: &str) -> bool {
        self.down.contains_key(name)
    }

    /// Nothing is down, and nothing came up a moment ago.
    pub(crate) fn are_well(&self) -> bool {
        self.down.is_empty() && self.risen.is_empty()
    }

    /// Whether what the kernel says of a way now counts. Where a backend was reached by an own link that is down or has
    /// just come up, only another way to it does.
    pub(crate) fn believe(&self, before: Option<&Reachability>, said: &Reachability, now: Instant) -> bool {
        let Some(Reachability::Resolved(hop)) = before else { return true };
        match said {
            Reachability::Pending | Reachability::InterfaceDown { .. } => false,
            Reachability::NoRoute | Reachability::NoNeighbor { .. } => self.fault(&hop.interface, now).is_none(),
            Reachability::Resolved(_)
            | Reachability::Local
            | Reachability::NotOnLink { .. }
            | Reachability::NoEthernet { .. }
            | Reachability::UnfitVlan { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbor::NextHop;

    #[test]
    fn an_own_link_that_is_down_takes_nobody_out() {
        let (start, hop) = (Instant::now(), NextHop::example());
        let at = |seconds| start + Duration::from_secs(seconds);
        let reached = Reachability::Resolved(hop.clone());
        let interface = || "eth0".to_owned();
        let missing = Reachability::NoNeighbor { via: hop.via, interface: interface() };
        let down = Reachability::InterfaceDown { interface: interface() };
        let mut links = OwnLinks::default();
        links.note("eth0", true, at(0));
        assert!(links.are_well() && links.believe(Some(&reached), &missing, at(0)), "its first report is no rise");
        links.note("eth0", false, at(10));
        links.note("eth0", false, at(11));
        for said in [&missing, &Reachability::NoRoute, &down] {
            assert!(!links.believe(Some(&reached), said, at(100)), "{said:?}");
            assert!(links.believe(None, said, at(100)), "nothing was known: {said:?}");
        }
        let other = Reachability::Resolved(NextHop { interface: "eth1".to_owned(), ..hop });
        assert!(links.believe(Some(&reached), &other, at(100)), "another way is a way");
        assert!(links.believe(Some(&other), &missing, at(100)), "another link than the one that is down");
        assert!(links.believe(Some(&reached), &Reachability::Local, at(100)));
        links.note("eth0", true, at(200));
        assert!(!links.believe(Some(&reached), &missing, at(204)) && links.fault("eth0", at(204)).is_some());
        assert!(links.believe(Some(&reached), &missing, at(205)) && links.fault("eth0", at(205)).is_none());
        links.note("eth1", true, at(206));
        assert!(links.are_well());
    }
}
