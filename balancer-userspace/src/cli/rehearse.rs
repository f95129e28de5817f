//! What a rehearsal says, as people read it.

use std::fmt::Write;

use super::render::{table, text};
use crate::control::api::{Rehearsed, RehearsedBackend, RehearsedService};

pub(super) fn rehearsed(rehearsed: &Rehearsed) -> String {
    let Rehearsed { file, profile, records, from, to, .. } = rehearsed;
    let mut out = format!("{file} on recorded traffic ({profile}): {records} records, {from} to {to}\n");
    out += "weights of the file, every backend up that is not lost; what commands set is not considered\n";
    for service in &rehearsed.services {
        out += &self::service(service);
    }
    if !rehearsed.services.is_empty() {
        out += "peaks are new flows a second in the busiest record, loads of the server's capacity with all its services\n";
    }
    for name in &rehearsed.unknown {
        let _ = writeln!(out, "  ! nothing is recorded of service {name}");
    }
    for absent in &rehearsed.absent {
        let (name, flows) = (&absent.name, absent.new_flows);
        let _ = writeln!(out, "  ! service {name} is recorded, with {flows} new flows, and the file does not have it");
    }
    if rehearsed.broken > 0 {
        let _ = writeln!(out, "  ! {} records are broken and were left out", rehearsed.broken);
    }
    let over =
        if rehearsed.exceeded { "MORE THAN SOME BACKEND DECLARES TO TAKE" } else { "no declared capacity is exceeded" };
    let _ = writeln!(out, "{over}");
    out
}

fn service(service: &RehearsedService) -> String {
    let RehearsedService { name, peak, spread_evenly, backends } = service;
    let mut out = format!("{name}: at most {:.1} new flows a second, at {}\n", peak.new_flows_per_second, peak.at);
    let header = ["backend", "weight", "peak", "at", "after a loss", "without", "capacity", "load", "after a loss", ""];
    let mut rows = table(&header, 1);
    for backend in backends {
        rows.add_row(row(backend));
    }
    out += &text(&rows);
    for backend in backends.iter().filter(|backend| backend.exceeds) {
        out += &exceeding(name.as_str(), backend);
    }
    if *spread_evenly > 0 {
        let _ = writeln!(
            out,
            "  ! {name}: its flows had other slots in {spread_evenly} records (another seed, affinity, table size or \
             address): they are taken to spread evenly"
        );
    }
    out
}

fn row(backend: &RehearsedBackend) -> Vec<String> {
    let rate = |rate: f64| format!("{rate:.1}");
    let load = |load: f64| format!("{:.0} %", load * 100.0);
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let after = backend.after_loss.as_ref();
    let mark = if backend.exceeds { "EXCEEDS" } else { "" };
    vec![
        backend.name.to_string(),
        backend.weight.to_string(),
        rate(backend.peak.new_flows_per_second),
        backend.peak.at.clone(),
        or_none(after.map(|after| rate(after.peak.new_flows_per_second))),
        or_none(after.map(|after| after.without.clone())),
        or_none(backend.capacity.map(|most| most.to_string())),
        or_none(backend.load.map(load)),
        or_none(backend.load_after_loss.as_ref().map(|after| load(after.load))),
        mark.to_owned(),
    ]
}

fn exceeding(service: &str, backend: &RehearsedBackend) -> String {
    let name = &backend.name;
    let percent = |load: f64| format!("{:.1} %", load * 100.0);
    match (backend.load.filter(|load| *load > 1.0), &backend.load_after_loss) {
        (Some(load), _) => format!("  ! {service}/{name} would get {} of its capacity\n", percent(load)),
        (None, Some(after)) => {
            let (load, without) = (percent(after.load), &after.without);
            format!("  ! {service}/{name} would get {load} of its capacity without {without}\n")
        }
        (None, None) => String::new(),
    }
}
