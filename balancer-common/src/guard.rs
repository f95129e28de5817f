//! Whose packets are taken, and how many flows a second may begin.

use crate::frame::Frame;
use crate::headers::{Ipv4, Ipv6};
use crate::layout::{Bucket, LpmKey, ServiceEntry, SourceKey, flags};
use crate::parse::{NETWORK, Packet, Role};
use crate::tables::Tables;
use crate::verdict::{Event, Reason};

/// Asked only where the service has a guard at all. `entropy` are the spare bits of the flow's hash.
#[inline(always)]
pub fn admit<T: Tables>(tables: &T, service: &ServiceEntry, packet: &Packet, entropy: u32) -> Result<(), Reason> {
    if service.has(flags::ACL) {
        // Of an error this is the client of the flow that it is about.
        let key = LpmKey::source(service.number, service.acl, packet.source());
        if !tables.allows(&key).unwrap_or(!service.has(flags::ACL_REFUSES_OTHERS)) {
            tables.tally(service.number, Event::AclRefused);
            return Err(Reason::AclRefused);
        }
    }
    let opens = match packet.role {
        Role::Opening => true,
        Role::Datagram => tables.begins_udp_flow(entropy, false),
        Role::Within | Role::Error => false,
    };
    if !opens {
        return Ok(());
    }
    if service.has(flags::SOURCE_RATE) && !tables.take_token(service.number, Some(&source(service, packet))) {
        tables.tally(service.number, Event::SourceLimited);
        return Err(Reason::SourceLimited);
    }
    if service.has(flags::RATE) && !tables.take_token(service.number, None) {
        tables.tally(service.number, Event::RateLimited);
        return Err(Reason::RateLimited);
    }
    Ok(())
}

/// Whether a list denies the sender of an ICMP error. Routers on the way are in no list: one that is not named may send.
#[inline(always)]
pub fn denies_sender<F: Frame, T: Tables>(frame: &mut F, tables: &T, service: &ServiceEntry, error: &Packet) -> bool {
    let sender = if error.is_ipv6() {
        frame.at::<Ipv6>(NETWORK).map(|ip| ip.source)
    } else {
        frame.at::<Ipv4>(NETWORK).map(|ip| [ip.source, 0, 0, 0])
    };
    let Some(sender) = sender else { return false };
    let denied = tables.allows(&LpmKey::source(service.number, service.acl, sender)) == Some(false);
    if denied {
        tables.tally(service.number, Event::AclRefused);
    }
    denied
}

/// A customer has an IPv4 address or an IPv6 /64 (RFC 6177), and can use all of that.
#[inline(always)]
fn source(service: &ServiceEntry, packet: &Packet) -> SourceKey {
    let family = u64::from(packet.destination.family());
    let [a, b, _, _] = packet.source();
    SourceKey {
        source: u64::from(a) | u64::from(b) << 32,
        service: u64::from(service.number) | family << 16,
        _padding: 0,
    }
}

/// The bucket after one token was taken at `now`; `None` where it was empty. Times in nanoseconds.
#[inline(always)]
pub fn take(bucket: Bucket, now: u64, interval: u64, depth: u64) -> Option<Bucket> {
    let full_again = if bucket > now { bucket } else { now };
    (full_again - now + interval <= depth).then_some(full_again + interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_after_that() {
        let (interval, depth) = (1_000, 5_000);
        let mut bucket = 0;
        let mut given = |now| match take(bucket, now, interval, depth) {
            Some(next) => {
                bucket = next;
                true
            }
            None => false,
        };
        assert_eq!((0..10).filter(|_| given(1_000_000)).count(), 5);
        assert!(given(1_001_000) && !given(1_001_000));
        assert_eq!((0..10).filter(|_| given(9_000_000)).count(), 5, "a pause fills it, and no more than that");
    }
}
