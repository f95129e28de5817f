//! Plans, and generations that were.

use std::fmt::Write;

use serde::Serialize;
use similar::TextDiff;

use super::render::{percent, table, text, word};
use crate::control::api::{ChangeKind, Generation, History, Plan, PlannedService, Verified, WorstLoad};
use crate::history::Record;
use crate::printable::line;

pub(super) fn plan(plan: &Plan) -> String {
    if plan.services.is_empty() {
        return format!("nothing would change (generation {})\n{}", plan.generation, warnings(plan));
    }
    let mut out = String::new();
    for service in &plan.services {
        out += &planned(service);
    }
    let worst = |worst: &Option<WorstLoad>| match worst {
        Some(WorstLoad { backend, load, without }) => format!("{:.0} % of {backend}, without {without}", load * 100.0),
        None => "unknown: no peaks and capacities are declared".to_owned(),
    };
    let _ = writeln!(out, "worst load after one loss: now {}", worst(&plan.worst_before));
    let _ = writeln!(out, "                           then {}", worst(&plan.worst_after));
    let _ = writeln!(out, "risk: {}", word(&plan.risk));
    for why in &plan.why {
        let _ = writeln!(out, "  {why}");
    }
    out += &warnings(plan);
    let _ = writeln!(out, "plan {}: `balancer apply FILE --plan {}` applies exactly this", plan.id, plan.id);
    out
}

fn warnings(plan: &Plan) -> String {
    let line = |warning: &crate::control::api::PlannedWarning| {
        let new = if warning.new { "new warning" } else { "warning" };
        format!("  ! {new}: {} [{}]\n", warning.message, warning.id)
    };
    plan.warnings.iter().map(line).collect()
}

fn planned(service: &PlannedService) -> String {
    let mut out = format!("{}: {}", service.name, word(&service.change));
    if service.change == ChangeKind::Changed {
        let _ = write!(
            out,
            ", {} of {} slots move; connections on them stay where they are until they end",
            service.slots_moved, service.slots
        );
        if let Some(flows) = service.flows_following {
            let _ = write!(out, " (about {flows} of the last minute)");
        }
    }
    out.push('\n');
    let mut rows = table(&["backend", "", "weight", "then", "share", "then", "load", "then"], 2);
    for backend in &service.backends {
        let weight = |weight: Option<u32>| weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string());
        let load = |load: Option<f64>| load.map_or_else(|| "-".to_owned(), |load| format!("{:.0} %", load * 100.0));
        let change = if backend.change == ChangeKind::Kept { String::new() } else { word(&backend.change) };
        rows.add_row(vec![
            backend.name.to_string(),
            change,
            weight(backend.weight_before),
            weight(backend.weight_after),
            percent(backend.share_before),
            percent(backend.share_after),
            load(backend.load_before),
            load(backend.load_after),
        ]);
    }
    out + &text(&rows)
}

pub(super) fn history(history: &History) -> String {
    let mut rows = table(&["generation", "at", "by", "what", "config", "result"], 99);
    for record in history.records.iter().rev() {
        rows.add_row(vec![
            record.generation.to_string(),
            record.at.clone(),
            by(record),
            what(record),
            record.content.chars().take(12).collect(),
            record.result.as_str().to_owned(),
        ]);
    }
    format!("generation {} is in force\n{}", history.generation, text(&rows))
}

fn by(record: &Record) -> String {
    record.uid.map_or_else(|| "-".to_owned(), |uid| format!("uid {uid}"))
}

fn what(record: &Record) -> String {
    let mut what = line(&record.command).into_owned();
    if !record.accepted.is_empty() {
        let _ = write!(what, ", accepting {}", record.accepted.join(", "));
    }
    if let Some(reason) = &record.reason {
        let _ = write!(what, " ({})", line(reason));
    }
    what
}

pub(super) fn verified(verified: &Verified) -> String {
    format!("{} generations: no record and no stored config was changed\n", verified.records)
}

/// The record as comments above the config, so that the whole is a config again.
pub(super) fn generation(generation: &Generation) -> String {
    let record = &generation.record;
    let mut out = format!("# generation {}, {}, {}\n", record.generation, record.at, by(record));
    let _ = writeln!(out, "# {}: {}", what(record), record.result.as_str());
    for (id, set) in &record.overrides {
        let weight = set.weight.map(|weight| format!("weight {weight}"));
        let drained = set.drained.then(|| "drained".to_owned());
        let set = weight.into_iter().chain(drained).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "# by command: {id} {set}");
    }
    out + &generation.text
}

/// How two generations differ.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    from: u64,
    to: u64,
    /// A unified diff of the configs; empty where they are the same.
    config: String,
    /// Backends for which commands had set something else.
    overrides: Vec<String>,
}

impl Difference {
    pub(super) fn of(from: &Generation, to: &Generation) -> Self {
        let (a, b) = (from.record.generation, to.record.generation);
        let diff = TextDiff::from_lines(&from.text, &to.text);
        let headers = (format!("generation {a}"), format!("generation {b}"));
        let config = if from.text == to.text {
            String::new()
        } else {
            diff.unified_diff().header(&headers.0, &headers.1).to_string()
        };
        let (old, new) = (&from.record.overrides, &to.record.overrides);
        let ids = old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>();
        let differs = ids.into_iter().filter(|id| old.get(id) != new.get(id));
        Self { from: a, to: b, config, overrides: differs.map(ToString::to_string).collect() }
    }

    pub(super) fn text(&self) -> String {
        let mut out = self.config.clone();
        if out.is_empty() {
            let _ = writeln!(out, "the configs of generations {} and {} are the same", self.from, self.to);
        }
        for id in &self.overrides {
            let _ = writeln!(out, "set by command in one of them only, or differently: {id}");
        }
        out
    }
}
