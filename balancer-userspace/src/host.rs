//! Facts about this host that a config is held against.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::spec::lint::Host;

/// Addresses and MTUs of the interfaces, as far as the kernel tells them.
pub fn facts() -> Host {
    let mut host = Host::default();
    for interface in getifaddrs().into_iter().flatten() {
        if let Some(mtu) = mtu(&interface.interface_name) {
            host.mtus.insert(interface.interface_name.clone(), mtu);
        }
        // Who answers directly has the service's address there, and a balancer may be a server too.
        if interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        host.addresses.extend(v4.or(address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()))));
    }
    host
}

/// Asked of a socket, which is in this network namespace whatever is mounted on /sys.
fn mtu(interface: &str) -> Option<u32> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // SAFETY: all zeros are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name and writes the number of a request of this type, which lives through the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    // SAFETY: the kernel wrote the number.
    (answer == 0).then_some(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}
