//! Route and neighbour to reachability: values in, value out.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::Wanted;

/// How a frame gets to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Where frames leave: of a VLAN device the one below it.
    pub ifindex: u32,
    pub interface: String,
    /// The tag that frames get; 0 for none.
    pub vlan: u16,
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
    /// A VLAN in a VLAN, or one of 802.1ad.
    UnfitVlan {
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
            Self::UnfitVlan { interface } => {
                write!(f, "{interface} is a VLAN in a VLAN or of 802.1ad; one 802.1Q tag is what can be sent")
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub name: String,
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    pub up: bool,
    pub vlan: Option<Vlan>,
}

/// What a VLAN device adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vlan {
    /// The device below it.
    pub below: u32,
    pub id: u16,
    /// 802.1Q, not 802.1ad.
    pub is_customer: bool,
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
        let (leaves_by, vlan) = match link.vlan {
            None => (ifindex, 0),
            Some(vlan) if vlan.is_customer && self.links.get(&vlan.below).is_some_and(|below| below.vlan.is_none()) => {
                (vlan.below, vlan.id)
            }
            Some(_) => return Reachability::UnfitVlan { interface },
        };
        match self.neighbours.get(&(ifindex, via)) {
            Some(mac) => {
                let (ifindex, mac, mtu) = (leaves_by, *mac, link.mtu);
                Reachability::Resolved(NextHop { ifindex, interface, vlan, source_mac, mac, mtu, via })
            }
            None => Reachability::NoNeighbor { via, interface },
        }
    }
}

impl Reachability {
    pub fn is_resolved(&self) -> bool {
        matches!(self, Self::Resolved(_))
    }
}

#[cfg(test)]
impl NextHop {
    pub(crate) fn example() -> Self {
        let via = IpAddr::from([192, 0, 2, 1]);
        Self { ifindex: 2, interface: "eth0".to_owned(), vlan: 0, source_mac: [2; 6], mac: [4; 6], mtu: 1500, via }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let hop = NextHop::example();
        let link = |up, mac| Link { name: hop.interface.clone(), mac, mtu: 1500, up, vlan: None };
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
    #[test]
    fn behind_a_vlan_frames_leave_below_with_a_tag() {
        let mut world = world();
        let hop = NextHop::example();
        let mut device = |ifindex, below, is_customer| {
            let link = Link { name: "vlan7".to_owned(), mac: Some([6; 6]), mtu: 1496, up: true, vlan: None };
            world.links.insert(ifindex, Link { vlan: Some(Vlan { below, id: 7, is_customer }), ..link });
            world.neighbours.insert((ifindex, hop.via), hop.mac);
        };
        device(10, 2, true);
        device(11, 10, true);
        device(12, 2, false);
        let wanted = Wanted { address: hop.via, on_link: true };
        let decide = |ifindex| world.decide(&wanted, Some(RouteAnswer::Via { ifindex, gateway: None }));
        let interface = "vlan7".to_owned();
        let tagged = NextHop { interface: interface.clone(), vlan: 7, source_mac: [6; 6], mtu: 1496, ..hop.clone() };
        assert_eq!(decide(10), Reachability::Resolved(tagged));
        assert_eq!(decide(11), Reachability::UnfitVlan { interface: interface.clone() });
        assert_eq!(decide(12), Reachability::UnfitVlan { interface });
    }
}
