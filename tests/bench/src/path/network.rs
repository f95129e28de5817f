//! The network of the whole path: every box on one switch, as in [`harness::lab`]'s one-armed, the same for everybody that
//! is compared. What differs is what its user would have to set up: who has the service's address, which way answers go.

use anyhow::Result;
use aya::Ebpf;

use harness::lab::{Lab, VIP4};
use harness::netns::Namespace;
use harness::programs::attach;
use harness::server::Server;

pub const BACKENDS: usize = 3;
pub const PORT: u16 = 8000;
/// The balancer's own address, which proxies listen on.
pub const BALANCER: [u8; 4] = [10, 77, 0, 2];
const CLIENT: [u8; 4] = [10, 77, 0, 1];

/// What backends are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// To whoever asks, from their own address.
    Directly,
    /// To the client by the balancer, which puts the address back.
    ByBalancer,
    /// From the service's address, directly.
    FromService,
    /// The same, and packets come with an outer header.
    FromServiceUnpacked,
}

pub struct Network {
    pub client: Namespace,
    pub balancer: Namespace,
    pub servers: Vec<Server>,
    _backends: Vec<Namespace>,
    _switch: Namespace,
    _programs: Vec<Ebpf>,
}

impl Network {
    pub fn new(answers: Answers) -> Result<Self> {
        let (switch, client, balancer) = (Namespace::new("sw")?, Namespace::new("cl")?, Namespace::new("lb")?);
        switch.ip("link add br0 type bridge")?;
        switch.ip("link set br0 up")?;
        plug(&switch, &client, "cl", CLIENT)?;
        plug(&switch, &balancer, "lb", BALANCER)?;
        let [a, b, c, d] = BALANCER;
        client.ip(&format!("route add {VIP4} via {a}.{b}.{c}.{d}"))?;
        balancer.sh("sysctl -qw net.ipv4.ip_forward=1")?;
        // Proxies need a port for each connection to a backend; `sysctl` here takes no value with a space.
        balancer.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000"))??;
        // Everybody is on one link, and must not be told so.
        balancer.sh("sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0")?;
        let mut network = Self {
            client,
            balancer,
            servers: Vec::new(),
            _backends: Vec::new(),
            _switch: switch,
            _programs: Vec::new(),
        };
        for i in 0..BACKENDS {
            network.add_backend(i, answers)?;
        }
        Ok(network)
    }

    /// What a veth needs before it takes frames that XDP sends: a program at its other end.
    pub fn take_sent_frames(&mut self) -> Result<()> {
        self._programs.push(attach(&self._switch, "p-lb", "pass")?);
        Ok(())
    }

    fn add_backend(&mut self, i: usize, answers: Answers) -> Result<()> {
        let backend = Namespace::new("b")?;
        plug(&self._switch, &backend, &format!("b{i}"), Lab::backend4(i).octets())?;
        match answers {
            Answers::Directly => {}
            Answers::ByBalancer => {
                let ([a, b, c, d], [e, f, g, h]) = (CLIENT, BALANCER);
                backend.ip(&format!("route add {a}.{b}.{c}.{d}/32 via {e}.{f}.{g}.{h}"))?;
            }
            Answers::FromService | Answers::FromServiceUnpacked => {
                backend.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")?;
                backend.ip(&format!("addr add {VIP4}/32 dev lo"))?;
            }
        }
        if answers == Answers::FromServiceUnpacked {
            // In the place of a tunnel device, which not every kernel has.
            self._programs.push(attach(&backend, "eth0", "decap")?);
        }
        self.servers.push(Server::start_bench(&backend, i, PORT)?);
        self._backends.push(backend);
        Ok(())
    }
}

/// A link from the namespace's `eth0` to the switch.
fn plug(switch: &Namespace, namespace: &Namespace, port: &str, address: [u8; 4]) -> Result<()> {
    let [a, b, c, d] = address;
    switch.ip(&format!("link add p-{port} type veth peer name eth0 netns {}", namespace.name()))?;
    // Room for outer headers behind the balancer, as a real network needs it.
    let mtu = if port == "cl" { 1500 } else { 1600 };
    switch.ip(&format!("link set p-{port} mtu {mtu} master br0 up"))?;
    namespace.ip(&format!("link set eth0 mtu {mtu} up"))?;
    // Frames as a wire would carry them: whole checksums, no segments larger than the MTU.
    for (namespace, interface) in [(switch, format!("p-{port}")), (namespace, "eth0".to_owned())] {
        namespace.sh(&format!("ethtool -K {interface} tx off tso off gso off gro off"))?;
    }
    namespace.ip(&format!("addr add {a}.{b}.{c}.{d}/24 dev eth0"))
}
