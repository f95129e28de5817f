//! Services that would both be meant by one packet.
//!
//! A single port wins over a range and a range over all ports; an exact address wins over a prefix and a longer prefix
//! over a shorter. So only what neither decides is wrong: the same port, or ranges that share one, on the same prefix.

use std::collections::HashMap;

use ipnet::IpNet;

use super::catalogue::Kind;
use super::diagnostic::{Problems, Span};
use super::seen::Seen;
use super::service::Read;
use super::{ports, prefix};
use crate::model::{Ports, Protocol};

/// Ranges, of which all ports are one, that one address or prefix and protocol may have.
const MOST_RANGES: usize = 32;

/// Ranges of one prefix and protocol, in the order of the file.
type Ranges<'r> = Vec<(Ports, &'r Span)>;

pub(super) fn check(services: &[Read], problems: &Problems<'_>) {
    let mut singles = Seen::new();
    let mut ranges: HashMap<(IpNet, Protocol), Ranges<'_>> = HashMap::new();
    for service in services {
        let (Some(address), Some(protocol), Some(ports)) = (&service.address, service.protocol, &service.ports) else {
            continue;
        };
        if !matches!(ports.value, Ports::One(_)) {
            let of_prefix = ranges.entry((address.value, protocol)).or_default();
            of_prefix.push((ports.value, &ports.span));
        }
        if let Some(line) = singles.before((address.value, protocol, ports.value), &address.span, problems) {
            let place = prefix::words(&address.value);
            let message = format!("two services are on {protocol} {place} {}", ports::words(ports.value));
            let help = format!("change address, port or protocol; the first is on line {line}");
            problems.add(Kind::Duplicate, address.span.clone(), message, help);
        }
    }
    for ((prefix, protocol), ranges) in &ranges {
        let of = format!("{protocol} {}", prefix::words(prefix));
        if let Some((_, span)) = ranges.get(MOST_RANGES) {
            let message = format!("{of} has {} ranges of ports, more than {MOST_RANGES}", ranges.len());
            let help = "join ranges into one, or use another address; single ports don't count";
            problems.add(Kind::Limit, (*span).clone(), message, help);
        }
        shared(&of, ranges, problems);
    }
}

/// Ranges that share a port; equal ones were noted already.
fn shared(of: &str, ranges: &Ranges<'_>, problems: &Problems<'_>) {
    let mut bounds: Vec<(u16, u16, &Span)> = ranges
        .iter()
        .filter_map(|(ports, span)| match ports {
            Ports::Range(first, last) => Some((*first, *last, *span)),
            Ports::One(_) | Ports::All => None,
        })
        .collect();
    bounds.sort_by_key(|(first, last, span)| (*first, *last, span.start));
    bounds.dedup_by_key(|(first, last, _)| (*first, *last));
    let Some(mut reaching) = bounds.first().cloned() else { return };
    for next in bounds.into_iter().skip(1) {
        if next.0 <= reaching.1 {
            let (earlier, later) =
                if reaching.2.start < next.2.start { (&reaching, &next) } else { (&next, &reaching) };
            problems.add(
                Kind::Duplicate,
                later.2.clone(),
                format!("ports {}-{} of {of} overlap with {}-{}", later.0, later.1, earlier.0, earlier.1),
                format!("let them share no port; the other is on line {}", problems.line(earlier.2)),
            );
        }
        if next.1 > reaching.1 {
            reaching = next;
        }
    }
}
