//! Whose fault a failed probe is: the backend's, or this host's, which says nothing about any backend.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Why this host could not ask, where that is what the error says.
pub(super) fn own_fault(error: &anyhow::Error, address: SocketAddr) -> Option<&'static str> {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())?;
    judge(code, || has_route(address.ip()))
}

/// A host that is unreachable although there is a route does not answer its neighbours: that is the backend's fault.
fn judge(code: i32, has_route: impl FnOnce() -> bool) -> Option<&'static str> {
    Some(match code {
        libc::ENETUNREACH => "this host has no route to it",
        libc::EHOSTUNREACH if !has_route() => "this host has no route to it",
        libc::ENETDOWN => "this host's network is down",
        libc::EADDRNOTAVAIL => "this host has no free address or port",
        libc::EPERM | libc::EACCES => "a rule of this host forbids the check",
        libc::EMFILE | libc::ENFILE => "this host has no file descriptor left",
        libc::ENOBUFS | libc::ENOMEM => "this host has no memory left for sockets",
        _ => return None,
    })
}

/// Connecting a UDP socket asks for the route and sends nothing.
fn has_route(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn what_this_host_did_wrong_is_told_from_what_the_backend_did() {
        let own = [
            libc::ENETUNREACH,
            libc::ENETDOWN,
            libc::EADDRNOTAVAIL,
            libc::EPERM,
            libc::EACCES,
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
        ];
        for code in own {
            assert!(judge(code, || true).is_some(), "{}", io::Error::from_raw_os_error(code));
        }
        for code in [libc::ECONNREFUSED, libc::ECONNRESET, libc::ETIMEDOUT, libc::EPIPE, libc::EHOSTUNREACH] {
            assert!(judge(code, || true).is_none(), "{}", io::Error::from_raw_os_error(code));
        }
        assert!(judge(libc::EHOSTUNREACH, || false).is_some());
    }

    #[test]
    fn the_code_is_found_below_what_was_said_about_it() {
        let error = Err::<(), _>(io::Error::from_raw_os_error(libc::EMFILE)).context("tcp connect").unwrap_err();
        let address = ([127, 0, 0, 1], 1).into();
        assert_eq!(own_fault(&error, address), Some("this host has no file descriptor left"));
        assert_eq!(own_fault(&anyhow::anyhow!("status 500"), address), None);
        assert!(has_route([127, 0, 0, 1].into()));
    }
}
