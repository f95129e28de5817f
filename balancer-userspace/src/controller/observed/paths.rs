//! Path MTUs to backends that routers on the way told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::{Backend, Service};
use crate::neighbor::NextHop;
use crate::plan::overhead;

/// After this long a larger packet is tried again (RFC 1191, 6.3).
const LIFETIME: Duration = Duration::from_secs(600);
/// The least that any path takes: RFC 791 and RFC 8200. A lower value is a mistake or an attack.
const LEAST_V4: u16 = 576;
const LEAST_V6: u16 = 1280;

fn least(address: IpAddr) -> u16 {
    if address.is_ipv4() { LEAST_V4 } else { LEAST_V6 }
}

#[derive(Debug, Default)]
pub(crate) struct PathMtus(HashMap<IpAddr, (u32, Instant)>);

impl PathMtus {
    /// Takes in what a router said of the way to `address`; true where that is news.
    pub(crate) fn learn(&mut self, address: IpAddr, mtu: u32, now: Instant) -> bool {
        let mtu = mtu.max(least(address).into());
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

    /// Largest IP packet, outer headers included, that routers let through to a backend of the service. Whatever they
    /// say, the least that a client may count on fits into it: 1,280 bytes of IPv6 (RFC 8200, 5) and 576 of IPv4.
    pub(crate) fn told(&self, service: &Service, backend: &Backend) -> Option<u32> {
        let (mtu, _) = self.0.get(&backend.address)?;
        let overhead = Some(overhead(service, backend.address)).filter(|_| service.encapsulates())?;
        Some((*mtu).max(u32::from(least(service.address) + overhead)))
    }

    /// The next hop with the MTU of the whole way.
    pub(crate) fn applied(&self, next_hop: &NextHop, service: &Service, backend: &Backend) -> NextHop {
        let told = self.told(service, backend).unwrap_or(u32::MAX);
        NextHop { mtu: next_hop.mtu.min(told), ..next_hop.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that forwards by `mode`, with a backend at 10.0.0.1.
    fn service(address: &str, mode: &str) -> Service {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"a\"\nprotocol = \"tcp\"\naddress = \"{address}\"\n\
             port = 80\nforward = \"{mode}\"\n[service.health]\nkind = \"none\"\n\
             [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.1\"\n"
        );
        crate::spec::parse("test.toml", &text).unwrap().services[0].clone()
    }

    fn mtu(paths: &PathMtus, service: &Service) -> u32 {
        let hop = NextHop { mtu: 1500, ..NextHop::example() };
        paths.applied(&hop, service, &service.backends[0]).mtu
    }

    #[test]
    fn the_least_that_was_told_counts_until_it_is_old() {
        let (now, address) = (Instant::now(), "10.0.0.1".parse().unwrap());
        let (mut paths, web) = (PathMtus::default(), service("192.0.2.1", "ipip"));
        assert!(paths.learn(address, 1400, now));
        assert!(!paths.learn(address, 1400, now) && !paths.learn(address, 1450, now));
        assert_eq!(mtu(&paths, &web), 1400);
        assert!(paths.expire(now + Duration::from_secs(60)).is_empty());
        assert_eq!(paths.expire(now + LIFETIME), [address]);
        assert_eq!(mtu(&paths, &web), 1500);
    }

    #[test]
    fn no_error_takes_more_than_every_client_may_count_on() {
        let mut paths = PathMtus::default();
        assert!(paths.learn("10.0.0.1".parse().unwrap(), 100, Instant::now()));
        let cases = [("192.0.2.1", "ipip", 596), ("192.0.2.1", "gue", 608), ("2001:db8::1", "ipip", 1300)];
        for (address, mode, wanted) in cases {
            assert_eq!(mtu(&paths, &service(address, mode)), wanted, "{address} by {mode}");
        }
    }

    #[test]
    fn packets_without_outer_headers_keep_the_size_of_the_link() {
        let mut paths = PathMtus::default();
        assert!(paths.learn("10.0.0.1".parse().unwrap(), 700, Instant::now()));
        for mode in ["l2", "nat"] {
            assert_eq!(mtu(&paths, &service("192.0.2.1", mode)), 1500, "{mode}");
        }
    }
}
