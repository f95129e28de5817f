//! The task that keeps a picture of links, routes and neighbours, and says what changed for the wanted addresses.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::decide::{Reachability, RouteAnswer, World};
use super::{Event, LinkEvent, Request, Wanted, netlink};

/// Changes of routes come in bursts; they are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Everything is asked again this often, should a message have been lost.
const RESYNC: Duration = Duration::from_secs(30);
/// Requests on their way to the kernel at a time.
const PIPELINE: usize = 64;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

pub(super) fn spawn(requests: mpsc::UnboundedReceiver<Request>, events: mpsc::Sender<Event>) -> Result<()> {
    let (connection, handle, messages) =
        rtnetlink::new_multicast_connection(&GROUPS).context("opening a netlink socket")?;
    tokio::spawn(connection);
    let watcher = Watcher {
        handle,
        events,
        world: World::default(),
        wanted: HashSet::new(),
        routes: HashMap::new(),
        known: HashMap::new(),
        managed: HashSet::new(),
        permanent: HashSet::new(),
        kernel_manages: true,
        report_at: None,
    };
    tokio::spawn(watcher.run(requests, messages));
    Ok(())
}

struct Watcher {
    handle: Handle,
    events: mpsc::Sender<Event>,
    world: World,
    wanted: HashSet<Wanted>,
    routes: HashMap<IpAddr, RouteAnswer>,
    /// What was last said.
    known: HashMap<Wanted, Reachability>,
    /// Neighbour entries that we asked the kernel to keep.
    managed: HashSet<(u32, IpAddr)>,
    /// Entries that an operator made, which need no keeping and stay as they are.
    permanent: HashSet<(u32, IpAddr)>,
    /// Kernels before 5.16 don't keep entries; they are asked again at each resync.
    kernel_manages: bool,
    /// A neighbour was lost: said a little later, so that a link that went down with it is told of first.
    report_at: Option<Instant>,
}

impl Watcher {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>, mut messages: Messages) {
        let mut resync = interval(RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reroute_at: Option<Instant> = None;
        loop {
            let due = reroute_at.unwrap_or_else(|| Instant::now() + RESYNC);
            let report_at = self.report_at;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Want(wanted)) => self.want(wanted).await,
                    Some(Request::Forget(answer)) => { let _ = answer.send(self.forget_all().await); }
                    None => return,
                },
                message = messages.next() => match message {
                    Some((message, _)) => {
                        if self.receive(message.payload).await {
                            reroute_at.get_or_insert(Instant::now() + DEBOUNCE);
                        }
                    }
                    None => { log::error!("the netlink socket closed: next hops are no longer followed"); return }
                },
                () = sleep_until(due), if reroute_at.is_some() => {
                    reroute_at = None;
                    self.reroute().await;
                }
                () = sleep_until(report_at.unwrap_or(due)), if report_at.is_some() => self.report().await,
                _ = resync.tick() => self.resync().await,
            }
        }
    }

    /// Takes one message in; true where routes have to be asked again.
    async fn receive(&mut self, payload: NetlinkPayload<RouteNetlinkMessage>) -> bool {
        use RouteNetlinkMessage as Message;
        match payload {
            // A port that leaves a bridge is told of as a link of the bridge family; the interface is still there.
            NetlinkPayload::InnerMessage(Message::NewLink(message) | Message::DelLink(message))
                if message.header.interface_family == AddressFamily::Bridge =>
            {
                false
            }
            NetlinkPayload::InnerMessage(Message::NewLink(message)) => {
                let (index, link) = netlink::read_link(&message);
                self.set_link(index, Some(link)).await
            }
            NetlinkPayload::InnerMessage(Message::DelLink(message)) => self.set_link(message.header.index, None).await,
            NetlinkPayload::InnerMessage(Message::NewNeighbour(message)) => {
                if let Some((key, mac)) = netlink::read_neighbour(&message) {
                    self.set_neighbour(key, mac).await;
                }
                false
            }
            NetlinkPayload::InnerMessage(Message::DelNeighbour(message)) => {
                let Some((key, _)) = netlink::read_neighbour(&message) else { return false };
                self.set_neighbour(key, None).await;
                // A managed entry goes with its link or by an operator's hand; routing it again brings it back.
                self.managed.remove(&key)
            }
            NetlinkPayload::Overrun(_) => {
                self.resync().await;
                false
            }
            NetlinkPayload::InnerMessage(
                Message::NewRoute(_) | Message::DelRoute(_) | Message::NewAddress(_) | Message::DelAddress(_),
            ) => true,
            _ => false,
        }
    }

    async fn set_link(&mut self, index: u32, link: Option<super::decide::Link>) -> bool {
        let before = match &link {
            Some(link) => self.world.links.insert(index, link.clone()),
            None => self.world.links.remove(&index),
        };
        if before == link {
            return false;
        }
        let present = link.is_some();
        if let Some(link) = link.or(before) {
            let up = present && link.up;
            let event = LinkEvent { name: link.name, ifindex: index, present, up, mtu: link.mtu };
            let _ = self.events.send(Event::Link(event)).await;
        }
        true
    }

    async fn set_neighbour(&mut self, key: (u32, IpAddr), mac: Option<[u8; 6]>) {
        let before = match mac {
            Some(mac) => self.world.neighbours.insert(key, mac),
            None => self.world.neighbours.remove(&key),
        };
        if before == mac || !(self.managed.contains(&key) || self.permanent.contains(&key)) {
            return;
        }
        if mac.is_none() {
            self.report_at.get_or_insert(Instant::now() + DEBOUNCE);
        } else {
            self.report().await;
        }
    }

    async fn want(&mut self, wanted: HashSet<Wanted>) {
        self.wanted = wanted;
        self.known.retain(|wanted, _| self.wanted.contains(wanted));
        let addresses: HashSet<IpAddr> = self.wanted.iter().map(|w| w.address).collect();
        self.routes.retain(|address, _| addresses.contains(address));
        let new = addresses.into_iter().filter(|address| !self.routes.contains_key(address)).collect();
        self.look_up(new).await;
        self.keep_neighbours().await;
        self.report().await;
    }

    async fn reroute(&mut self) {
        let addresses: HashSet<IpAddr> = self.wanted.iter().map(|wanted| wanted.address).collect();
        self.look_up(addresses.into_iter().collect()).await;
        self.keep_neighbours().await;
        self.report().await;
    }

    async fn resync(&mut self) {
        match netlink::links(&self.handle).await {
            Ok(messages) => {
                let links: HashMap<_, _> = messages.iter().map(netlink::read_link).collect();
                let gone: Vec<u32> = self.world.links.keys().filter(|i| !links.contains_key(i)).copied().collect();
                for index in gone {
                    self.set_link(index, None).await;
                }
                for (index, link) in links {
                    self.set_link(index, Some(link)).await;
                }
            }
            Err(error) => log::warn!("{error:#}"),
        }
        match netlink::neighbours(&self.handle).await {
            Ok(messages) => {
                let usable = messages.iter().filter_map(netlink::read_neighbour);
                self.world.neighbours = usable.filter_map(|(key, mac)| Some((key, mac?))).collect();
                let there: HashSet<_> = messages.iter().filter_map(netlink::read_neighbour).map(|(k, _)| k).collect();
                self.managed.retain(|key| there.contains(key));
                let permanent = messages.iter().filter(|m| m.header.state == NeighbourState::Permanent);
                self.permanent = permanent.filter_map(netlink::read_neighbour).map(|(key, _)| key).collect();
            }
            Err(error) => log::warn!("{error:#}"),
        }
        if !self.kernel_manages {
            self.managed.clear();
        }
        self.reroute().await;
    }

    async fn look_up(&mut self, addresses: Vec<IpAddr>) {
        let handle = &self.handle;
        let answers = futures::stream::iter(addresses)
            .map(|address| async move { (address, netlink::route(handle, address).await) })
            .buffer_unordered(PIPELINE);
        for (address, answer) in answers.collect::<Vec<_>>().await {
            match answer {
                Ok(answer) => {
                    self.routes.insert(address, answer);
                }
                // What was known is better than nothing; it is asked again at the next resync.
                Err(error) => log::warn!("asking for the route to {address}: {error}"),
            }
        }
    }

    /// Has the kernel resolve every next hop that it does not resolve yet.
    async fn keep_neighbours(&mut self) {
        let next_hops: HashSet<(u32, IpAddr)> = self
            .wanted
            .iter()
            .filter_map(|wanted| match self.routes.get(&wanted.address)? {
                RouteAnswer::Via { ifindex, gateway } => Some((*ifindex, gateway.unwrap_or(wanted.address))),
                _ => None,
            })
            .collect();
        let unwanted: Vec<_> = self.managed.iter().filter(|key| !next_hops.contains(key)).copied().collect();
        for key in unwanted {
            self.managed.remove(&key);
            netlink::forget(&self.handle, key.0, key.1).await;
        }
        for (ifindex, address) in next_hops {
            let kept = self.managed.contains(&(ifindex, address)) || self.permanent.contains(&(ifindex, address));
            if kept || !self.world.links.get(&ifindex).is_some_and(|l| l.up) {
                continue;
            }
            let asked = if self.kernel_manages {
                netlink::manage(&self.handle, ifindex, address).await
            } else {
                netlink::probe(&self.handle, ifindex, address).await
            };
            match asked {
                Ok(()) => {
                    self.managed.insert((ifindex, address));
                }
                Err(error) if self.kernel_manages => {
                    log::warn!("the kernel does not keep neighbours by itself ({error}); asking every {RESYNC:?}");
                    self.kernel_manages = false;
                }
                Err(error) => log::debug!("resolving {address}: {error}"),
            }
        }
    }

    async fn report(&mut self) {
        self.report_at = None;
        let mut changed = Vec::new();
        for wanted in &self.wanted {
            let now = self.world.decide(wanted, self.routes.get(&wanted.address).copied());
            if self.known.get(wanted) != Some(&now) {
                self.known.insert(*wanted, now.clone());
                changed.push((*wanted, now));
            }
        }
        if !changed.is_empty() {
            let _ = self.events.send(Event::Reachability(changed)).await;
        }
    }

    async fn forget_all(&mut self) -> usize {
        self.wanted.clear();
        self.known.clear();
        let mut forgotten = 0;
        for (ifindex, address) in std::mem::take(&mut self.managed) {
            forgotten += usize::from(netlink::forget(&self.handle, ifindex, address).await);
        }
        forgotten
    }
}
