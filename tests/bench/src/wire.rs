//! The network for live frames: no switch, no server, a sink that counts at either end.
//!
//! ```text
//! client (sink) ── in0 balancer out0 ── network (sink)
//!        10.76.0.0/24          10.77.0.0/24
//! ```
//! Backends' addresses are there on both sides, and neighbours answer for them.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::PerCpuArray;

use harness::lab::VIP4;
use harness::netns::Namespace;
use harness::programs::attach;
use harness::running;

pub const BACKENDS: u8 = 3;

pub struct Wire {
    pub balancer: Namespace,
    client: Namespace,
    network: Namespace,
    sinks: Vec<Ebpf>,
    /// On `in0`: live frames come from an interface only where XDP is in use.
    entry: Option<Ebpf>,
}

impl Wire {
    pub fn new() -> Result<Self> {
        let mut wire = Self {
            balancer: Namespace::new("lb")?,
            client: Namespace::new("cl")?,
            network: Namespace::new("net")?,
            sinks: Vec::new(),
            entry: None,
        };
        wire.balancer.sh("sysctl -qw net.ipv4.ip_forward=1")?;
        wire.balancer.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0")?;
        for (peer, interface, net) in [(&wire.client, "in0", 76), (&wire.network, "out0", 77)] {
            let balancer = &wire.balancer;
            balancer.ip(&format!("link add {interface} type veth peer name eth0 netns {}", peer.name()))?;
            balancer.ip(&format!("addr add 10.{net}.0.2/24 dev {interface}"))?;
            for backend in 0..BACKENDS {
                peer.ip(&format!("addr add 10.{net}.0.{}/24 dev eth0", 11 + backend))?;
            }
            for (namespace, interface) in [(balancer, interface), (peer, "eth0")] {
                namespace.ip(&format!("link set {interface} mtu 1600 up"))?;
                namespace.sh(&format!("ethtool -K {interface} tx off tso off gso off gro off"))?;
            }
            wire.sinks.push(attach(peer, "eth0", "sink")?);
        }
        // The sources of the frames, and a way that the service's address has without a balancer.
        wire.balancer.ip("route add 10.0.0.0/12 via 10.76.0.11")?;
        wire.balancer.ip(&format!("route add {VIP4} via 10.77.0.11"))?;
        Ok(wire)
    }

    /// With a program that does nothing on the interface that frames come in by.
    pub fn with_entry(mut self) -> Result<Self> {
        self.entry = Some(attach(&self.balancer, "in0", "pass")?);
        Ok(self)
    }

    /// With a ruleset for `nft -f`.
    pub fn with_rules(self, rules: &str) -> Result<Self> {
        nft(&self.balancer, rules)?;
        self.with_entry()
    }

    /// Has the balancer's kernel find every neighbour, so that no packet waits for it.
    pub fn meet(&self) -> Result<()> {
        self.balancer.enter(|| -> Result<()> {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            for net in [76, 77] {
                for backend in 0..BACKENDS {
                    socket.send_to(b"?", (format!("10.{net}.0.{}", 11 + backend), 9))?;
                }
            }
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        })?
    }

    /// Packets counted at both ends since the wire is there.
    pub fn arrived(&self) -> Result<u64> {
        let mut sum = 0;
        for sink in &self.sinks {
            let counts: PerCpuArray<_, u64> = sink.map("SINK").context("SINK")?.try_into()?;
            sum += counts.get(&0, 0)?.iter().sum::<u64>();
        }
        Ok(sum)
    }

    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        Ok(self.balancer.enter(|| nix::net::if_::if_nametoindex(interface))??)
    }

    /// MAC address of `in0`.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let output = self.balancer.command("ip").args(["-j", "link", "show", "dev", "in0"]).output()?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading ip -j link")?;
        let text = links[0]["address"].as_str().context("no MAC address")?.to_owned();
        let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
        bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is no MAC address"))
    }

    /// Number of the XDP program on `in0`.
    pub fn program(&self) -> Result<u32> {
        running::number(&self.balancer, "in0")
    }
}

/// Loads a ruleset in the namespace.
pub fn nft(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut command = namespace.command("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A ruleset that sends connections for [`VIP4`] to backends by a hash of where they come from.
pub fn dnat(port: u16, backends: &[Ipv4Addr]) -> String {
    let map: Vec<String> = backends.iter().enumerate().map(|(i, address)| format!("{i} : {address}")).collect();
    let (modulus, map) = (map.len(), map.join(", "));
    format!(
        "add table ip lb\nadd chain ip lb pre {{ type nat hook prerouting priority dstnat; }}\n\
         add rule ip lb pre ip daddr {VIP4} tcp dport {port} dnat to jhash ip saddr . tcp sport mod {modulus} \
         map {{ {map} }}\n"
    )
}
