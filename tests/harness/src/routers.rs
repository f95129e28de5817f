//! Routers with narrow links: one before a client, one before a backend. Who is behind them says in its SYNs that it takes
//! segments as large as anywhere, so that only path MTU discovery finds what fits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::lab::{BackendKind, Lab, VIP4, VIP6, plain_frames};
use crate::netns::Namespace;
use crate::programs::attach;

/// A client, or a backend, behind its router.
pub struct Behind {
    pub host: Namespace,
    pub router: Namespace,
}

/// A router on the switch as host `host`, and net `net` behind it, whose links take packets of `mtu` bytes.
fn behind(lab: &mut Lab, role: &str, host: u8, net: u8, mtu: u32) -> Result<(Namespace, Namespace)> {
    let (router, inner) = (Namespace::new("r")?, Namespace::new(role)?);
    lab.plug(&router, &format!("r{host}"))?;
    lab.address(&router, "eth0", 77, host)?;
    router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0")?;
    router.ip(&format!("link add eth1 type veth peer name eth0 netns {}", inner.name()))?;
    for (namespace, interface) in [(&router, "eth1"), (&inner, "eth0")] {
        namespace.ip(&format!("link set {interface} mtu {mtu} up"))?;
        plain_frames(namespace, interface)?;
    }
    lab.address(&router, "eth1", net, 1)?;
    lab.address(&inner, "eth0", net, 11)?;
    inner.ip(&format!("route add default via 10.{net}.0.1 advmss 1460"))?;
    inner.ip(&format!("-6 route add default via fd{net}::1 advmss 1440"))?;
    for route in [format!("{VIP4} via 10.77.0.2"), "198.18.0.0/16 via 10.77.0.2".to_owned()] {
        router.ip(&format!("route add {route}"))?;
    }
    for route in [format!("{VIP6} via fd77::2"), "100::/64 via fd77::2".to_owned()] {
        router.ip(&format!("-6 route add {route}"))?;
    }
    Ok((router, inner))
}

/// A client behind a link of `mtu` bytes.
pub fn narrow_client(lab: &mut Lab, mtu: u32) -> Result<Behind> {
    let (router, host) = behind(lab, "far", 3, 79, mtu)?;
    // Who answers clients directly goes by the router; under `nat` only the balancer does.
    for namespace in lab.backends.iter().chain([&lab.balancer]) {
        let has_vip = namespace.command("ip").args(["addr", "show", "lo"]).output()?;
        let direct = String::from_utf8_lossy(&has_vip.stdout).contains(&VIP4.to_string());
        if direct || namespace.name() == lab.balancer.name() {
            namespace.ip("route add 10.79.0.0/24 via 10.77.0.3")?;
            namespace.ip("-6 route add fd79::/64 via fd77::3")?;
        }
    }
    Ok(Behind { host, router })
}

/// A backend behind a link of `mtu` bytes.
pub fn narrow_backend(lab: &mut Lab, kind: BackendKind, mtu: u32) -> Result<Behind> {
    let (router, host) = behind(lab, "far", 4, 78, mtu)?;
    lab.balancer.ip("route add 10.78.0.0/24 via 10.77.0.4")?;
    lab.balancer.ip("-6 route add fd78::/64 via fd77::4")?;
    if kind == BackendKind::Nat {
        // What goes to clients, errors of the router too, goes by the balancer.
        router.ip("route add 10.77.0.1/32 via 10.77.0.2")?;
        router.ip("-6 route add fd77::1/128 via fd77::2")?;
    } else {
        host.ip(&format!("addr add {VIP4}/32 dev lo"))?;
        host.ip(&format!("addr add {VIP6}/128 dev lo nodad"))?;
        lab._programs.push(attach(&host, "eth0", "decap")?);
    }
    Ok(Behind { host, router })
}

/// The address of the backend behind its router.
pub fn narrow_address(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0x11).into() } else { Ipv4Addr::new(10, 78, 0, 11).into() }
}
