//! What is asked of the kernel over netlink, and how its messages read.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::time::timeout;

use super::decide::{Link, RouteAnswer, Vlan};

type Mac = [u8; 6];

pub(super) fn read_link(message: &LinkMessage) -> (u32, Link) {
    let flags = message.header.flags;
    let mut link = Link {
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        vlan: None,
    };
    let mut below = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(address) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = address.as_slice().try_into().ok();
            }
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(info) => link.vlan = read_vlan(info),
            _ => {}
        }
    }
    if let (Some(vlan), Some(below)) = (&mut link.vlan, below) {
        vlan.below = below;
    }
    (message.header.index, link)
}

/// Of a VLAN device, but for the device below, which stands elsewhere.
fn read_vlan(info: &[LinkInfo]) -> Option<Vlan> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let mut vlan = Vlan { below: 0, id: 0, is_customer: true };
    for attribute in data {
        match attribute {
            InfoVlan::Id(id) => vlan.id = *id,
            InfoVlan::Protocol(protocol) => vlan.is_customer = *protocol == VlanProtocol::Ieee8021Q,
            _ => {}
        }
    }
    Some(vlan)
}

/// Interface, address, and the link-layer address where the kernel would use it.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Option<Mac>)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    Some(((message.header.ifindex, address?), mac.filter(|_| usable)))
}

fn read_route(message: &RouteMessage) -> RouteAnswer {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return RouteAnswer::Local,
        _ => return RouteAnswer::None,
    }
    let (mut ifindex, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Via(netlink_packet_route::route::RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            _ => {}
        }
    }
    ifindex.map_or(RouteAnswer::None, |ifindex| RouteAnswer::Via { ifindex, gateway })
}

/// An answer may be lost where the kernel's messages overrun the socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which way packets to `address` would go.
pub(super) async fn route(handle: &Handle, address: IpAddr) -> Result<RouteAnswer> {
    let message = match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    let mut answers = handle.route().get(message).execute();
    match timeout(PATIENCE, answers.try_next()).await.context("no answer from the kernel")? {
        Ok(answer) => Ok(answer.map_or(RouteAnswer::None, |message| read_route(&message))),
        // The kernel says by these errors that there is no route, or one that refuses.
        Err(rtnetlink::Error::NetlinkError(error))
            if matches!(
                -error.raw_code(),
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL | libc::EAGAIN
            ) =>
        {
            Ok(RouteAnswer::None)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn links(handle: &Handle) -> Result<Vec<LinkMessage>> {
    handle.link().get().execute().try_collect().await.context("listing the interfaces")
}

pub(super) async fn neighbours(handle: &Handle) -> Result<Vec<NeighbourMessage>> {
    handle.neighbours().get().execute().try_collect().await.context("listing the neighbours")
}

/// Has the kernel resolve `address` and keep it resolved.
pub(super) async fn manage(handle: &Handle, ifindex: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    let mut request = handle.neighbours().add(ifindex, address).state(NeighbourState::None).replace();
    request.message_mut().attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    request.execute().await
}

/// Has the kernel resolve `address` once, where it can't keep entries by itself.
pub(super) async fn probe(handle: &Handle, ifindex: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    let request = handle.neighbours().add(ifindex, address).state(NeighbourState::None).replace();
    request.flags(NeighbourFlags::Use).execute().await
}

/// Removes the entry; the kernel makes another when it needs one.
pub(super) async fn forget(handle: &Handle, ifindex: u32, address: IpAddr) -> bool {
    let mut message = NeighbourMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
        IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    }));
    handle.neighbours().del(message).execute().await.is_ok()
}
