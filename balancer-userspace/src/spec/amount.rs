//! `[service.peak]` and the `capacity` of a backend: so much a second.

use super::reader::{Placed, Section};
use crate::model::Amount;

pub(super) const AMOUNT_KEYS: &[&str] = &["new_flows_per_second", "bits_per_second"];

/// More than any link carries.
const MOST_FLOWS: u64 = 1_000_000_000;
const MOST_BITS: u64 = 1_000_000_000_000_000;

pub(super) fn amount(section: &Section<'_>, key: &str, name: &'static str) -> Option<Placed<Amount>> {
    let section = section.section(key, name, AMOUNT_KEYS)?;
    let new_flows = section.number("new_flows_per_second", 1..=MOST_FLOWS);
    let bits = section.number("bits_per_second", 1..=MOST_BITS);
    if !section.has("new_flows_per_second") && !section.has("bits_per_second") {
        section.missing("new_flows_per_second", "1000");
    }
    let value = Amount { new_flows: new_flows.map(|number| number.value), bits: bits.map(|number| number.value) };
    Some(Placed { value, span: section.span.clone() })
}
