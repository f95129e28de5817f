//! Path MTUs to backends that routers on the way told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::neighbor::NextHop;

/// After this long a larger packet is tried again (RFC 1191, 6.3).
const LIFETIME: Duration = Duration::from_secs(600);
/// The least that any path takes: RFC 791 and RFC 8200. A lower value is a mistake or an attack.
const LEAST_V4: u32 = 576;
const LEAST_V6: u32 = 1280;

#[derive(Debug, Default)]
pub(crate) struct PathMtus(HashMap<IpAddr, (u32, Instant)>);

impl PathMtus {
    /// Takes in what a router said of the way to `address`; true where that is news.
    pub(crate) fn learn(&mut self, address: IpAddr, mtu: u32, now: Instant) -> bool {
        let least = if address.is_ipv4() { LEAST_V4 } else { LEAST_V6 };
        let mtu = mtu.max(least);
        let known = self.0.get(&address).map(|(mtu, _)| *mtu);
        if known.is_some_and(|known| known < mtu) {
            return false;
        }
        self.0.insert(address, (mtu, now));
        known != Some(mtu)
    }

    /// Forgets what is too old, and says about which addresses.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let old = |at: &Instant| now.duration_since(*at) >= LIFETIME;
        let gone: Vec<IpAddr> = self.0.iter().filter(|(_, (_, at))| old(at)).map(|(address, _)| *address).collect();
        self.0.retain(|address, _| !gone.contains(address));
        gone
    }

    pub(crate) fn applied(&self, next_hop: &NextHop, address: IpAddr) -> NextHop {
        let known = self.0.get(&address).map_or(u32::MAX, |(mtu, _)| *mtu);
        NextHop { mtu: next_hop.mtu.min(known), ..next_hop.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_was_told_counts_until_it_is_old() {
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        let mut paths = PathMtus::default();
        assert!(paths.learn(address, 1400, now));
        assert!(!paths.learn(address, 1400, now) && !paths.learn(address, 1450, now));
        assert!(paths.learn(address, 100, now));
        let hop = NextHop { mtu: 1500, ..NextHop::example() };
        assert_eq!(paths.applied(&hop, address).mtu, 576);
        assert_eq!(paths.applied(&hop, "10.0.0.2".parse().unwrap()).mtu, 1500);
        assert!(paths.expire(now + Duration::from_secs(60)).is_empty());
        assert_eq!(paths.expire(now + LIFETIME), [address]);
        assert_eq!(paths.applied(&hop, address).mtu, 1500);
    }
}
