//! Who may open flows, and how many a second: `allow`, `deny` and the rates of new flows.

use std::collections::HashMap;

use ipnet::IpNet;

use super::beside::Beside;
use super::catalogue::Kind;
use super::diagnostic::Problems;
use super::prefix;
use super::prefix_list::{self, Entry, List, WrongEntry};
use super::reader::{Placed, Section};
use crate::model::{Guard, Rate};

const HIGHEST_RATE: u32 = 10_000_000;

/// A guard, and how many prefixes each key adds to it.
pub(super) struct ReadGuard {
    pub(super) guard: Guard,
    pub(super) sizes: Vec<Placed<usize>>,
}

/// `beside`: files that it names.
pub(super) fn guard(service: &Section<'_>, address: Option<&Placed<IpNet>>, beside: Beside<'_>) -> ReadGuard {
    let v4 = address.map(|address| address.value.addr().is_ipv4());
    let allow = prefix_list::list(service, ("allow", "allow_file"), beside, v4);
    let deny = prefix_list::list(service, ("deny", "deny_file"), beside, v4);
    if let Some(allow) = &allow {
        nobody(allow, service);
        if let Some(deny) = &deny {
            contradictions(allow, deny, service.problems);
        }
    }
    let mut sizes = Vec::new();
    let mut prefixes = |list: Option<List>| {
        let Some(list) = list else { return Vec::new() };
        sizes.extend(list.sizes);
        let mut prefixes: Vec<IpNet> = list.entries.into_iter().map(|entry| entry.prefix).collect();
        // A file in another order says the same.
        prefixes.sort_unstable();
        prefixes
    };
    let guard = Guard {
        allow: prefixes(allow),
        deny: prefixes(deny),
        rate: rate(service, "new_flows_per_second", "new_flows_burst"),
        source_rate: rate(service, "source_new_flows_per_second", "source_new_flows_burst"),
    };
    ReadGuard { guard, sizes }
}

/// A list that came out empty by mistake must not let everybody in, and one that is meant to let nobody in is odd.
fn nobody(allow: &List, service: &Section<'_>) {
    if let [first, ..] = &allow.sizes[..]
        && allow.whole
        && allow.entries.is_empty()
    {
        service.problems.add(
            Kind::Value,
            first.span.clone(),
            "`service.allow` and `service.allow_file` name no prefix, so that nobody could open a flow",
            "write at least one; to allow everybody remove the key",
        );
    }
}

fn contradictions(allow: &List, deny: &List, problems: &Problems<'_>) {
    let allowed: HashMap<IpNet, &Entry> = allow.entries.iter().map(|entry| (entry.prefix, entry)).collect();
    let both = deny.entries.iter().filter_map(|denied| Some((denied, *allowed.get(&denied.prefix)?)));
    let wrong = both.map(|(denied, allowed)| WrongEntry {
        kind: Kind::Mismatch,
        place: denied.place.clone(),
        message: format!("{} is both allowed and denied", prefix::words(&denied.prefix)),
        help: format!("remove one; it is allowed {}", allowed.place.words(problems)),
    });
    prefix_list::note(wrong.collect(), problems);
}

fn rate(service: &Section<'_>, key: &str, burst_key: &str) -> Option<Rate> {
    let per_second = service.number(key, 1..=HIGHEST_RATE);
    let burst = service.number(burst_key, 1..=HIGHEST_RATE);
    if let (Some(burst), false) = (&burst, service.has(key)) {
        let message = format!("`service.{burst_key}` says how far `{key}` may be exceeded, which is missing");
        let help = format!("add `{key}`, or remove `{burst_key}`");
        service.problems.add(Kind::Mismatch, burst.span.clone(), message, help);
    }
    let per_second = per_second?.value;
    Some(Rate { per_second, burst: burst.map_or(per_second, |burst| burst.value) })
}
