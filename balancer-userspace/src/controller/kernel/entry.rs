//! Addresses as entries of the maps have them.

use std::net::IpAddr;

use balancer_common::layout::BackendEntry;

pub(crate) fn address_of(backend: &BackendEntry) -> IpAddr {
    match backend.address {
        [four, 0, 0, 0] => IpAddr::from(four.to_ne_bytes()),
        six => v6(six),
    }
}

pub(crate) fn v6(words: [u32; 4]) -> IpAddr {
    let bytes = words.map(u32::to_ne_bytes).concat();
    <[u8; 16]>::try_from(bytes).map_or(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), IpAddr::from)
}
