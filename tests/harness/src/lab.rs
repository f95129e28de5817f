//! A virtual network: a client, the balancer and backends.
//!
//! ```text
//! one-armed:  client ──┐                      routed:  client ── balancer ──┐
//!           balancer ──┤ switch                                            ├ switch
//!           backends ──┘                                        backends ──┘
//! ```
//! Backends answer clients directly where they have the service's address (`l2`, `ipip`), or by the balancer, their
//! default gateway (`nat`, and everything in the routed network).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::Ebpf;

use crate::netns::Namespace;
use crate::programs::attach;

/// Addresses that services have in every lab.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    OneArmed,
    Routed,
}

/// What a backend does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// Has the service's address.
    L2,
    /// The same, and drops what a flood sends: the balancer is under test, not the backend's kernel.
    Sieved,
    /// Has it, and takes outer headers off.
    Ipip,
    /// Has an address of its own only.
    Nat,
}

pub struct Lab {
    pub client: Namespace,
    pub balancer: Namespace,
    pub backends: Vec<Namespace>,
    pub switch: Namespace,
    pub _programs: Vec<Ebpf>,
}

impl Lab {
    pub fn new(topology: Topology, backends: &[BackendKind]) -> Result<Self> {
        let switch = Namespace::new("sw")?;
        switch.ip("link add br0 type bridge")?;
        // A switch does not look at checksums; a kernel that filters what it bridges would, and some can't.
        let _ = switch.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0");
        switch.ip("link set br0 up")?;
        let mut lab = Self {
            client: Namespace::new("cl")?,
            balancer: Namespace::new("lb")?,
            backends: Vec::new(),
            switch,
            _programs: Vec::new(),
        };
        lab.forward()?;
        lab.plug(&lab.balancer, "lb")?;
        lab.address(&lab.balancer, "eth0", 77, 2)?;
        lab._programs.push(attach(&lab.switch, "p-lb", "pass")?);
        match topology {
            Topology::OneArmed => {
                lab.plug(&lab.client, "cl")?;
                lab.address(&lab.client, "eth0", 77, 1)?;
                lab.route_vips(77)?;
            }
            Topology::Routed => {
                let (client, balancer) = (lab.client.name(), &lab.balancer);
                balancer.ip(&format!("link add eth1 type veth peer name eth0 netns {client}"))?;
                for (namespace, interface) in [(&lab.client, "eth0"), (balancer, "eth1")] {
                    namespace.ip(&format!("link set {interface} up"))?;
                    plain_frames(namespace, interface)?;
                }
                lab.address(&lab.client, "eth0", 76, 1)?;
                lab.address(balancer, "eth1", 76, 2)?;
                lab.route_vips(76)?;
            }
        }
        lab._programs.push(attach(&lab.client, "eth0", "pass")?);
        for kind in backends {
            lab.add_backend(*kind)?;
        }
        for i in 0..backends.len() {
            lab.await_way(Self::backend4(i).into())?;
            lab.await_way(Self::backend6(i).into())?;
        }
        Ok(lab)
    }

    /// Waits until packets go from the balancer to this address and back: a new link takes up to a second for that, and a
    /// controller that starts in that second begins without the backend, and keeps UDP flows from it for minutes.
    fn await_way(&self, address: IpAddr) -> Result<()> {
        /// Nobody listens there: a host that is reached refuses.
        const DISCARD: u16 = 9;
        let deadline = Instant::now() + Duration::from_secs(5);
        let patience = Duration::from_millis(50);
        let reached = || match TcpStream::connect_timeout(&(address, DISCARD).into(), patience) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        };
        while !self.balancer.enter(reached)? {
            ensure!(Instant::now() < deadline, "the balancer does not reach {address}");
        }
        Ok(())
    }

    /// Has every backend answer for all addresses of a prefix, and the client send there.
    pub fn route_prefix(&self, prefix: &str) -> Result<()> {
        for backend in &self.backends {
            backend.ip(&format!("route add local {prefix} dev lo"))?;
        }
        self.client.ip(&format!("route add {prefix} via 10.77.0.2"))
    }

    /// Has the switch drop what XDP sends from the balancer: a veth takes that only where its peer has a program.
    pub fn refuse_transmissions(&mut self) {
        drop(self._programs.remove(0));
    }

    /// Addresses of backend `i`, from 0.
    pub fn backend4(i: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 11 + i as u8)
    }

    pub fn backend6(i: usize) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x11 + i as u16)
    }

    pub fn backend(i: usize, ipv6: bool) -> IpAddr {
        if ipv6 { Self::backend6(i).into() } else { Self::backend4(i).into() }
    }

    fn add_backend(&mut self, kind: BackendKind) -> Result<()> {
        let i = self.backends.len();
        let backend = Namespace::new("b")?;
        self.plug(&backend, &format!("b{i}"))?;
        backend.ip(&format!("addr add {}/24 dev eth0", Self::backend4(i)))?;
        backend.ip(&format!("addr add {}/64 dev eth0 nodad", Self::backend6(i)))?;
        backend.ip("route add default via 10.77.0.2")?;
        backend.ip("-6 route add default via fd77::2")?;
        if kind != BackendKind::Nat {
            // The address is answered for, but never told to neighbours.
            backend.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
            backend.ip(&format!("addr add {VIP4}/32 dev lo"))?;
            backend.ip(&format!("addr add {VIP6}/128 dev lo nodad"))?;
        }
        let program = match kind {
            BackendKind::Ipip => "decap",
            BackendKind::Sieved => "sieve",
            BackendKind::L2 | BackendKind::Nat => "pass",
        };
        self._programs.push(attach(&backend, "eth0", program)?);
        self.backends.push(backend);
        Ok(())
    }

    /// A link from the namespace's `eth0` to the switch.
    pub fn plug(&self, namespace: &Namespace, port: &str) -> Result<()> {
        let switch = &self.switch;
        switch.ip(&format!("link add p-{port} type veth peer name eth0 netns {}", namespace.name()))?;
        // Room for outer headers behind the balancer, as a real network needs it.
        let mtu = if port == "cl" { 1500 } else { 1600 };
        switch.ip(&format!("link set p-{port} mtu {mtu} master br0 up"))?;
        namespace.ip(&format!("link set eth0 mtu {mtu} up"))?;
        plain_frames(switch, &format!("p-{port}"))?;
        plain_frames(namespace, "eth0")
    }

    pub fn address(&self, namespace: &Namespace, interface: &str, net: u8, host: u8) -> Result<()> {
        namespace.ip(&format!("addr add 10.{net}.0.{host}/24 dev {interface}"))?;
        namespace.ip(&format!("addr add fd{net}::{host}/64 dev {interface} nodad"))
    }

    fn route_vips(&self, net: u8) -> Result<()> {
        self.client.ip(&format!("route add {VIP4} via 10.{net}.0.2"))?;
        self.client.ip(&format!("-6 route add {VIP6} via fd{net}::2"))
    }

    fn forward(&self) -> Result<()> {
        self.balancer.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        self.balancer.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")
    }
}

/// Frames as a wire would carry them: whole checksums, no segments larger than the MTU.
pub fn plain_frames(namespace: &Namespace, interface: &str) -> Result<()> {
    namespace.sh(&format!("ethtool -K {interface} tx off tso off gso off gro off"))
}
