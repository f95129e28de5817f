//! What does not fit the host that the config is for.

use super::{Kind, Lint};
use crate::model::{Protocol, Service};
use crate::plan::overhead;

/// The longest packet that most clients send.
const USUAL: u32 = 1500;
/// Of an IPv4 or an IPv6 packet's headers and TCP's.
const HEADERS: [u32; 2] = [40, 60];

pub(super) fn check(lint: &Lint<'_>) {
    for (number, (service, read)) in lint.services().enumerate() {
        let own = |address| lint.host.addresses.contains(address);
        if let Some(place) = read.address.as_ref().filter(|_| service.prefix_len >= 32 && own(&service.address)) {
            let message = format!("{} is an address of this host", service.address);
            let help = "the balancer needs no address for a service; take it off the interface";
            lint.about_service(Kind::OwnAddress, service, place.span.clone(), message, help);
        }
        for (at, backend) in service.backends.iter().enumerate().filter(|(_, backend)| own(&backend.address)) {
            let span = read.backends[at].address.span.clone();
            let message = format!("{} is this host itself, which packets can't be sent to", backend.address);
            let help = "give the address of another host".to_owned();
            lint.about_backend(Kind::OwnAddress, (number, at), span, message, help);
        }
    }
    mtus(lint);
}

fn mtus(lint: &Lint<'_>) {
    let least = lint.interfaces.iter().filter_map(|interface| lint.host.mtus.get_key_value(&interface.name));
    let Some((interface, mtu)) = least.min_by_key(|(_, mtu)| **mtu) else { return };
    for (service, read) in lint.services() {
        let overhead = service.backends.iter().map(|backend| u32::from(overhead(service, backend.address)));
        let Some(overhead) = overhead.max().filter(|overhead| *overhead > 0) else { continue };
        let longest = longest_packet(service);
        if longest + overhead > *mtu {
            let message = format!(
                "packets of {longest} bytes for {} leave with {overhead} more, and {interface} takes {mtu}",
                service.name
            );
            let fits = mtu.saturating_sub(overhead + headers(service));
            let help = format!("raise the MTU of {interface} to {}, or set `mss_clamp = {fits}`", longest + overhead);
            lint.about_service(Kind::Mtu, service, read.span.clone(), message, &help);
        }
    }
}

/// Bytes of the longest packet of the service that clients are to be expected to send.
pub fn longest_packet(service: &Service) -> u32 {
    match (service.mss_clamp, service.protocol) {
        (Some(clamp), Protocol::Tcp) => u32::from(clamp) + headers(service),
        _ => USUAL,
    }
}

fn headers(service: &Service) -> u32 {
    HEADERS[usize::from(service.address.is_ipv6())]
}
