//! Route and neighbour to reachability: values in, value out.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::Wanted;

/// How a frame gets to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    pub ifindex: u32,
    pub interface: String,
    pub source_mac: [u8; 6],
    pub mac: [u8; 6],
    /// Of the interface: the largest IP packet in bytes.
    pub mtu: u32,
    /// The gateway, or the backend itself.
    pub via: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    /// Not looked up yet.
    Pending,
    Resolved(NextHop),
    NoRoute,
    NoNeighbor {
        via: IpAddr,
        interface: String,
    },
    /// The address is this host's own.
    Local,
    /// `l2` needs the backend on a link of this host.
    NotOnLink {
        via: IpAddr,
    },
    /// The interface has no Ethernet addresses.
    NoEthernet {
        interface: String,
    },
    InterfaceDown {
        interface: String,
    },
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => write!(f, "next hop not looked up yet"),
            Self::Resolved(hop) => write!(f, "next hop {} on {}", hop.via, hop.interface),
            Self::NoRoute => write!(f, "no route"),
            Self::NoNeighbor { via, interface } => write!(f, "no neighbour answers for {via} on {interface}"),
            Self::Local => write!(f, "the address is this host's own"),
            Self::NotOnLink { via } => write!(f, "not on a link of this host (route via {via}), as l2 needs it"),
            Self::NoEthernet { interface } => write!(f, "{interface} is no Ethernet interface"),
            Self::InterfaceDown { interface } => write!(f, "interface {interface} is down"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub name: String,
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    pub up: bool,
}

/// The kernel's answer for one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteAnswer {
    None,
    Local,
    Via { ifindex: u32, gateway: Option<IpAddr> },
}

/// Links and usable neighbours as the kernel has them.
#[derive(Debug, Default)]
pub(super) struct World {
    pub links: HashMap<u32, Link>,
    /// Only neighbours whose address is known to be good or was so a moment ago.
    pub neighbours: HashMap<(u32, IpAddr), [u8; 6]>,
}

impl World {
    pub(super) fn decide(&self, wanted: &Wanted, route: Option<RouteAnswer>) -> Reachability {
        let (ifindex, gateway) = match route {
            None => return Reachability::Pending,
            Some(RouteAnswer::None) => return Reachability::NoRoute,
            Some(RouteAnswer::Local) => return Reachability::Local,
            Some(RouteAnswer::Via { ifindex, gateway }) => (ifindex, gateway),
        };
        if let (true, Some(via)) = (wanted.on_link, gateway) {
            return Reachability::NotOnLink { via };
        }
        let Some(link) = self.links.get(&ifindex) else { return Reachability::Pending };
        let interface = link.name.clone();
        if !link.up {
            return Reachability::InterfaceDown { interface };
        }
        let Some(source_mac) = link.mac else { return Reachability::NoEthernet { interface } };
        let via = gateway.unwrap_or(wanted.address);
        match self.neighbours.get(&(ifindex, via)) {
            Some(mac) => {
                Reachability::Resolved(NextHop { ifindex, interface, source_mac, mac: *mac, mtu: link.mtu, via })
            }
            None => Reachability::NoNeighbor { via, interface },
        }
    }
}

#[cfg(test)]
impl NextHop {
    pub(crate) fn example() -> Self {
        let via = IpAddr::from([192, 0, 2, 1]);
        Self { ifindex: 2, interface: "eth0".to_owned(), source_mac: [2; 6], mac: [4; 6], mtu: 1500, via }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let hop = NextHop::example();
        let link = |up, mac| Link { name: hop.interface.clone(), mac, mtu: 1500, up };
        World {
            links: [(2, link(true, Some([2; 6]))), (3, link(false, Some([2; 6]))), (4, link(true, None))].into(),
            neighbours: [((2, hop.via), hop.mac)].into(),
        }
    }

    #[test]
    fn each_obstacle_has_its_own_name() {
        let world = world();
        let hop = NextHop::example();
        let behind = Wanted { address: [198, 51, 100, 7].into(), on_link: false };
        let via = |ifindex, gateway| Some(RouteAnswer::Via { ifindex, gateway });
        let interface = || hop.interface.clone();
        assert_eq!(world.decide(&behind, via(2, Some(hop.via))), Reachability::Resolved(hop.clone()));
        assert_eq!(world.decide(&behind, None), Reachability::Pending);
        assert_eq!(world.decide(&behind, Some(RouteAnswer::None)), Reachability::NoRoute);
        assert_eq!(world.decide(&behind, Some(RouteAnswer::Local)), Reachability::Local);
        let missing = Reachability::NoNeighbor { via: behind.address, interface: interface() };
        assert_eq!(world.decide(&behind, via(2, None)), missing);
        let down = Reachability::InterfaceDown { interface: interface() };
        assert_eq!(world.decide(&behind, via(3, Some(hop.via))), down);
        let tunnel = Reachability::NoEthernet { interface: interface() };
        assert_eq!(world.decide(&behind, via(4, Some(hop.via))), tunnel);
        let direct = Wanted { on_link: true, ..behind };
        assert_eq!(world.decide(&direct, via(2, Some(hop.via))), Reachability::NotOnLink { via: hop.via });
    }
}
