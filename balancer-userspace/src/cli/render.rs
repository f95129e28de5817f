//! Answers as people read them: values in, text out.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use crate::control::api::{
    Acceptance, BackendState, BackendStatus, Changed, Detached, Elsewhere, Explanation, Guard, InterfaceStatus,
    Override, Reloaded, ServiceShares, ServiceStatus, ShareChange, Status,
};

pub(super) fn table(header: &[&str], right_from: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= right_from {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(super) fn text(table: &Table) -> String {
    table.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

pub(super) fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn status(status: &Status) -> String {
    let Status { node, version, generation, config_file, config_applied_at, .. } = status;
    let mut out =
        format!("{node}: balancer {version}, generation {generation}, {config_file} of {config_applied_at}\n");
    if let Some(guard) = &status.guard {
        let _ = writeln!(out, "! {}: {}", guard.command, on_probation(guard));
    }
    if let Some(refused) = &status.config_refused {
        let _ = writeln!(out, "THE LAST RELOAD WAS REFUSED, what runs is older than the file:\n{}", indent(refused));
    }
    for alarm in &status.alarms {
        let _ = writeln!(
            out,
            "{} {}: {} (since {})",
            alarm.severity.as_str().to_uppercase(),
            alarm.alarm,
            alarm.summary,
            alarm.since
        );
    }
    for finding in &status.findings {
        if let Some(Acceptance { by, at, reason }) = &finding.accepted {
            let when = if at.is_empty() { String::new() } else { format!(" at {at}") };
            let _ = writeln!(out, "accepted by {by}{when}: {} [{}]: {reason}", finding.message, finding.id);
        }
    }
    for InterfaceStatus { name, attached, problem, .. } in &status.interfaces {
        let mode = attached.as_ref().map_or_else(|| "NOT ATTACHED".to_owned(), |mode| format!("XDP {}", word(mode)));
        let problem = problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
        let _ = writeln!(out, "interface {name}: {mode}{problem}");
    }
    for service in &status.services {
        out += "\n";
        out += &self::service(service);
    }
    if !status.dropped.is_empty() {
        out += "\ndropped packets by reason\n";
        let mut drops = table(&["reason", "packets"], 1);
        for (reason, count) in &status.dropped {
            drops.add_row(vec![reason.clone(), count.to_string()]);
        }
        out += &text(&drops);
    }
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Address and ports.
pub(super) fn place(service: &ServiceStatus) -> String {
    let whole = if service.address.is_ipv4() { 32 } else { 128 };
    let prefix = if service.prefix_len == whole { String::new() } else { format!("/{}", service.prefix_len) };
    match service.ports.parse() {
        Ok(port) if prefix.is_empty() => std::net::SocketAddr::new(service.address, port).to_string(),
        _ => format!("{}{prefix} ports {}", service.address, service.ports),
    }
}

/// What is kept where it is after a change; nothing in the steady state.
fn connections(service: &ServiceStatus) -> String {
    let mut out = String::new();
    if service.open_slots > 0 || service.former_mapping {
        let former = if service.former_mapping { ", and of the mapping before the last change" } else { "" };
        let _ = writeln!(
            out,
            "  established flows of {} open slots{former} stay where they are; {} of {} flows remembered",
            service.open_slots, service.flow_table_entries, service.flow_table_capacity
        );
    }
    if !service.leaving.is_empty() {
        let names: Vec<&str> = service.leaving.iter().map(|name| name.as_str()).collect();
        let _ = writeln!(out, "  leaving, with established flows: {}", names.join(", "));
    }
    let happened = service.events.iter().filter(|(_, count)| **count > 0);
    let happened: Vec<String> = happened.map(|(event, count)| format!("{event} {count}")).collect();
    if !happened.is_empty() {
        let _ = writeln!(out, "  {}", happened.join(", "));
    }
    out
}

fn service(service: &ServiceStatus) -> String {
    let mut out = format!("{}: {} {}, {}", service.name, service.protocol, place(service), word(&service.forward));
    let _ = writeln!(out, ", affinity {}, {} slots", word(&service.affinity), service.table_size);
    out += &connections(service);
    let mut rows = table(
        &[
            "backend",
            "address",
            "state",
            "weight",
            "in force",
            "configured",
            "effective",
            "planned",
            "kernel",
            "observed",
            "packets",
            "bytes",
            "new flows",
        ],
        3,
    );
    for backend in &service.backends {
        let share = backend.share;
        rows.add_row(vec![
            backend.name.to_string(),
            backend.address.to_string(),
            backend.state.as_str().to_owned(),
            backend.weight.to_string(),
            backend.effective_weight.to_string(),
            percent(share.config),
            percent(share.effective),
            percent(share.planned),
            percent(share.kernel),
            percent(share.observed),
            backend.packets.to_string(),
            backend.bytes.to_string(),
            backend.new_flows.to_string(),
        ]);
    }
    out += &text(&rows);
    for backend in &service.backends {
        out += &remarks(backend);
    }
    out
}

/// What a row of the table has no room for, and nobody may overlook.
fn remarks(backend: &BackendStatus) -> String {
    let BackendStatus { name, file_weight, .. } = backend;
    let mut out = String::new();
    if let Some(Override { weight, drained, by_uid, at }) = &backend.set_by_command {
        if let Some(weight) = weight {
            let _ =
                writeln!(out, "  ! {name}: weight {weight} set by uid {by_uid} at {at}; the file says {file_weight}");
        }
        if *drained {
            let _ = writeln!(out, "  ! {name}: drained by uid {by_uid} at {at}");
        }
    }
    // A drain is said above, with who asked for it.
    if let Some(reason) = backend.reason.as_ref().filter(|_| backend.state != BackendState::Draining) {
        let _ = writeln!(out, "  ! {name}: {reason}");
    }
    out
}

pub(super) fn changed(changed: &Changed) -> String {
    let Changed { service, generation, seconds, .. } = changed;
    let mut out = format!("{service}: generation {generation}, in force after {:.1} ms\n", seconds * 1000.0);
    out += &shares(&changed.backends);
    if let Some(guard) = &changed.guard {
        let _ = writeln!(out, "  guarded: {}", on_probation(guard));
    }
    for warning in &changed.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    out
}

/// Backends with their shares before a change and after it.
fn shares(backends: &[ShareChange]) -> String {
    let mut rows = table(&["backend", "state", "weight", "in force", "share before", "share after"], 2);
    for backend in backends {
        rows.add_row(vec![
            backend.name.to_string(),
            backend.state.as_str().to_owned(),
            backend.weight.to_string(),
            backend.effective_weight.to_string(),
            percent(backend.before),
            percent(backend.after),
        ]);
    }
    text(&rows)
}

pub(super) fn explanation(explanation: &Explanation) -> String {
    let flow = &explanation.flow;
    let mut out = format!("{} {} to {}: {}", flow.protocol, flow.source, flow.destination, explanation.verdict);
    if let Some(route) = &explanation.route {
        let _ = write!(out, " to {}/{}", route.service, route.backend);
    }
    if let Some(reason) = &explanation.reason {
        let _ = write!(out, " ({reason})");
    }
    out += "\n";
    for step in &explanation.steps {
        let _ = writeln!(out, "  {step}");
    }
    if let Some(Elsewhere { when, service, slot, backend, same }) = &explanation.elsewhere {
        let place = match (service, slot, backend) {
            (Some(service), Some(slot), Some(backend)) => format!("slot {slot}, {service}/{backend}"),
            (Some(service), ..) => format!("{service}, where no backend takes flows"),
            (None, ..) => "no service".to_owned(),
        };
        let _ = writeln!(out, "{when}: {place}{}", if *same { ", as now" } else { "" });
    }
    out
}

fn on_probation(guard: &Guard) -> String {
    let Guard { step, steps, seconds_left, .. } = guard;
    format!("step {step} of {steps}; taken back in {seconds_left} s unless `balancer confirm` comes")
}

pub(super) fn reloaded(reloaded: &Reloaded) -> String {
    let names = |names: &[crate::model::ServiceName]| match names {
        [] => "none".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut out = if reloaded.dry_run {
        format!("nothing was changed; generation {} stays in force, and this would change:\n", reloaded.generation)
    } else {
        format!("generation {}, in force after {:.1} ms\n", reloaded.generation, reloaded.seconds * 1000.0)
    };
    let _ = writeln!(out, "  added:   {}", names(&reloaded.added));
    let _ = writeln!(out, "  removed: {}", names(&reloaded.removed));
    let _ = writeln!(out, "  changed: {}", names(&reloaded.changed));
    for ServiceShares { service, backends } in &reloaded.shares {
        let _ = writeln!(out, "{service}:");
        out += &shares(backends);
    }
    if let Some(guard) = &reloaded.guard {
        let _ = writeln!(out, "  guarded: {}", on_probation(guard));
    }
    for warning in &reloaded.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    for id in &reloaded.overrides_ended {
        let _ = writeln!(
            out,
            "  ! {id}: what a command had set ended, because the file is newer; the file's weight is in force"
        );
    }
    out
}

pub(super) fn detached(detached: &Detached) -> String {
    let mut out = String::new();
    for removed in &detached.removed {
        let _ = writeln!(out, "removed: {removed}");
    }
    for kept in &detached.kept {
        let _ = writeln!(out, "kept:    {kept}");
    }
    if out.is_empty() {
        out += "nothing was there to be removed\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Shares;
    use crate::model::{Affinity, ForwardMode, Protocol, XdpMode};

    fn backend(name: &str, state: BackendState) -> BackendStatus {
        let share = Some(0.5);
        BackendStatus {
            name: name.parse().unwrap(),
            address: [10, 0, 0, 1].into(),
            port: 80,
            weight: 100,
            file_weight: 100,
            set_by_command: None,
            effective_weight: 100,
            state,
            reason: None,
            share: Shares { config: share, effective: share, planned: share, kernel: share, observed: None },
            packets: 1200,
            bytes: 96_000,
            new_flows: 310,
            check_seconds: None,
            check_failures: 0,
        }
    }

    #[test]
    fn a_status_hides_nothing_that_an_operator_must_know() {
        let set = Override { weight: Some(50), drained: true, by_uid: 1000, at: "2026-11-20T10:00:00Z".to_owned() };
        let changed = BackendStatus { weight: 50, set_by_command: Some(set), ..backend("a", BackendState::Draining) };
        let reason = Some("http GET /healthz from 10.0.0.1:80: status 503".to_owned());
        let down = BackendStatus { reason, ..backend("b", BackendState::Down) };
        let service = ServiceStatus {
            name: "web".parse().unwrap(),
            protocol: Protocol::Tcp,
            address: [192, 0, 2, 10].into(),
            port: 80,
            forward: ForwardMode::Ipip,
            affinity: Affinity::Flow,
            table_size: 65_537,
            ports: "80".to_owned(),
            prefix_len: 32,
            open_slots: 12,
            former_mapping: false,
            flow_table_entries: 7,
            flow_table_capacity: 1000,
            leaving: vec!["old".parse().unwrap()],
            events: [("flow_table_full".to_owned(), 3), ("quic_routed".to_owned(), 0)].into(),
            backends: vec![changed, down],
        };
        let interface = InterfaceStatus {
            name: "eth1".to_owned(),
            wanted: XdpMode::Auto,
            attached: None,
            problem: Some("interface eth1 is gone".to_owned()),
        };
        let text = status(&Status {
            findings: Vec::new(),
            alarms: Vec::new(),
            node: "edge-1".to_owned(),
            version: "0.1.0".to_owned(),
            generation: 7,
            config_file: "b.toml".to_owned(),
            config_applied_at: "2026-11-20T09:00:00Z".to_owned(),
            config_refused: Some("b.toml:3:1: error".to_owned()),
            not_written: Vec::new(),
            guard: None,
            interfaces: vec![interface],
            services: vec![service],
            dropped: [("no_backend".to_owned(), 3)].into(),
        });
        for part in [
            "generation 7",
            "THE LAST RELOAD WAS REFUSED",
            "interface eth1: NOT ATTACHED: interface eth1 is gone",
            "! a: weight 50 set by uid 1000 at 2026-11-20T10:00:00Z; the file says 100",
            "! a: drained by uid 1000",
            "! b: http GET /healthz from 10.0.0.1:80: status 503",
            "no_backend        3",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 140), "too wide:\n{text}");
    }
}
