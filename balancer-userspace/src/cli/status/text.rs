//! A status on a terminal.

use std::time::Duration;

use super::columns::{self, Column};
use super::screen::{Screen, Tone};
use super::wrong::wrong;
use super::{View, age};
use crate::cli::args::Sort;
use crate::cli::backends::{headline, state, takes_flows, up};
use crate::cli::render::{percent, place, word};
use crate::control::api::{Acceptance, BackendState, BackendStatus, Override, ServiceStatus, Status};

/// Backends of all services together that are shown although nothing is wrong: they fit a screen.
const FEW: usize = 16;
/// Names in one line, at most.
const NAMED: usize = 4;

pub(super) fn status(status: &Status, view: &View<'_>) -> Screen {
    let mut screen = Screen::new(view.width);
    head(&mut screen, status);
    screen.blank();
    if wrong(&mut screen, status, view) {
        screen.text(Tone::Faint, "`balancer runbook NAME` says what to do about each of these");
        screen.blank();
    }
    accepted(&mut screen, status);
    screen.blank();
    let all: usize = status.services.iter().map(|service| service.backends.len()).sum();
    let down = |service: &&ServiceStatus| service.backends.iter().any(|backend| !takes_flows(backend));
    let shown = status.services.iter().filter(|service| !view.down_only || down(service));
    let mut any = false;
    for service in shown {
        any = true;
        self::service(&mut screen, service, view, view.whole || all <= FEW);
    }
    if !any {
        let none = if view.down_only { "every backend of every service takes flows" } else { "no services" };
        screen.text(Tone::Good, none);
    }
    if !status.dropped.is_empty() {
        screen.blank();
        let drops = status.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>();
        screen.text(Tone::Plain, &format!("packets dropped since the start: {}", drops.join(", ")));
    }
    screen
}

fn head(screen: &mut Screen, status: &Status) {
    let (text, is_well) = headline(status);
    screen.text(if is_well { Tone::Bold } else { Tone::Warning }, &text);
    screen.text(Tone::Faint, &format!("config {} of {}", status.config_file, status.config_applied_at));
    let attached = status
        .interfaces
        .iter()
        .filter_map(|interface| interface.attached.map(|mode| format!("{} {}", interface.name, word(&mode))));
    let attached: Vec<String> = attached.collect();
    screen.text(Tone::Faint, &format!("balancer {}, XDP on {}", status.version, attached.join(", ")));
}

fn accepted(screen: &mut Screen, status: &Status) {
    for finding in &status.findings {
        if let Some(Acceptance { by, at, reason }) = &finding.accepted {
            let when = if at.is_empty() { String::new() } else { format!(" at {at}") };
            let text = format!("accepted by {by}{when}: {} [{}]: {reason}", finding.message, finding.id);
            screen.text(Tone::Faint, &text);
        }
    }
}

fn service(screen: &mut Screen, service: &ServiceStatus, view: &View<'_>, whole: bool) {
    let up = up(&service.backends);
    let all = service.backends.len();
    let state = if up == 0 { "DOWN: no backend takes flows".to_owned() } else { format!("{up} of {all} up") };
    let forward = word(&service.forward);
    let text = format!("{}  {} {}  {forward}  {state}", service.name, service.protocol, place(service));
    let tone = match (up, up == all) {
        (0, _) => Tone::Bad,
        (_, true) => Tone::Good,
        _ => Tone::Warning,
    };
    if !whole && !view.down_only {
        return screen.text(tone, &(text + &exceptions(service)));
    }
    screen.blank();
    screen.text(tone, &text);
    under_way(screen, service);
    let mut shown: Vec<&BackendStatus> = service.backends.iter().collect();
    shown.retain(|backend| !view.down_only || !takes_flows(backend));
    sort(&mut shown, view.sort);
    for line in columns::rows(columns(service, &shown, view), screen.width()) {
        screen.line(Tone::Plain, line);
    }
    for backend in shown {
        remarks(screen, backend, view);
    }
    screen.blank();
}

/// Backends of a line: those that take no flows, and those that somebody set.
fn exceptions(service: &ServiceStatus) -> String {
    let states = [BackendState::Down, BackendState::Draining, BackendState::Disabled, BackendState::Unknown];
    let mut out = String::new();
    let mut add = |what: &str, names: Vec<&str>| {
        let more = names.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if !names.is_empty() {
            out += &format!("; {what}: {}{more}", names[..names.len().min(NAMED)].join(", "));
        }
    };
    let names = |is: &dyn Fn(&BackendStatus) -> bool| {
        service.backends.iter().filter(|backend| is(backend)).map(|backend| backend.name.as_str()).collect::<Vec<_>>()
    };
    for state in states {
        add(state.as_str(), names(&|backend| backend.state == state));
    }
    add("weight by command", names(&|backend| backend.set_by_command.as_ref().is_some_and(|set| set.weight.is_some())));
    out
}

fn sort(backends: &mut [&BackendStatus], by: Sort) {
    match by {
        Sort::Config => {}
        Sort::Name => backends.sort_by_key(|backend| backend.name.clone()),
        Sort::State => backends.sort_by_key(|backend| (takes_flows(backend), backend.state.as_str())),
        Sort::Weight => backends.sort_by_key(|backend| std::cmp::Reverse(backend.effective_weight)),
        Sort::Share => backends.sort_by(|a, b| b.share.kernel.unwrap_or(0.0).total_cmp(&a.share.kernel.unwrap_or(0.0))),
        Sort::Flows => backends.sort_by_key(|backend| std::cmp::Reverse(backend.new_flows)),
    }
}

fn columns(service: &ServiceStatus, shown: &[&BackendStatus], view: &View<'_>) -> Vec<Column> {
    let cells = |cell: &dyn Fn(&BackendStatus) -> String| shown.iter().map(|backend| cell(backend)).collect::<Vec<_>>();
    let rate = |of: fn(&BackendStatus) -> u64, scale: u64| {
        cells(&|backend| {
            let before = view.before.and_then(|(status, passed)| Some((earlier(status, service, backend)?, passed)));
            before.map_or(String::new(), |(before, passed)| {
                per_second(of(backend).saturating_sub(of(before)) * scale, passed)
            })
        })
    };
    vec![
        Column::new("backend", false, 0, cells(&|backend| backend.name.to_string())),
        Column::new("address", false, 3, cells(&|backend| backend.address.to_string())),
        Column::new("state", false, 0, cells(&|backend| state(backend).to_owned())),
        Column::new("weight", true, 1, cells(&weight)),
        Column::new("share", true, 2, cells(&|backend| percent(backend.share.kernel))),
        Column::new("observed", true, 5, cells(&|backend| percent(backend.share.observed))),
        Column::new("new flows", true, 6, cells(&|backend| backend.new_flows.to_string())),
        Column::new("flows/s", true, 4, rate(|backend| backend.new_flows, 1)),
        Column::new("bit/s", true, 4, rate(|backend| backend.bytes, 8)),
    ]
}

fn earlier<'a>(status: &'a Status, service: &ServiceStatus, backend: &BackendStatus) -> Option<&'a BackendStatus> {
    let service = status.services.iter().find(|other| other.name == service.name)?;
    service.backends.iter().find(|other| other.name == backend.name)
}

fn per_second(count: u64, passed: Duration) -> String {
    let rate = count as f64 / passed.as_secs_f64().max(0.001);
    match rate {
        ..1e4 => format!("{rate:.0}"),
        ..1e7 => format!("{:.1}k", rate / 1e3),
        ..1e10 => format!("{:.1}M", rate / 1e6),
        _ => format!("{:.1}G", rate / 1e9),
    }
}

fn weight(backend: &BackendStatus) -> String {
    if backend.weight == backend.effective_weight {
        backend.weight.to_string()
    } else {
        format!("{} of {}", backend.effective_weight, backend.weight)
    }
}

/// A change whose connections are still where they were.
fn under_way(screen: &mut Screen, service: &ServiceStatus) {
    if service.open_slots > 0 || service.former_mapping {
        let part = percent(Some(f64::from(service.open_slots) / f64::from(service.table_size.max(1))));
        let text = format!("  a change is under way: old connections stay put, {part} of the table is still open");
        screen.text(Tone::Plain, &text);
    }
    if !service.leaving.is_empty() {
        let names: Vec<&str> = service.leaving.iter().map(|name| name.as_str()).collect();
        screen.text(Tone::Plain, &format!("  leaving, with connections that go on: {}", names.join(", ")));
    }
    let happened = service.events.iter().filter(|(_, count)| **count > 0);
    let happened: Vec<String> = happened.map(|(event, count)| format!("{event} {count}")).collect();
    if !happened.is_empty() {
        screen.text(Tone::Plain, &format!("  since the start: {}", happened.join(", ")));
    }
}

/// What a row has no room for, and nobody may overlook.
fn remarks(screen: &mut Screen, backend: &BackendStatus, view: &View<'_>) {
    let name = &backend.name;
    if let Some(Override { weight, drained, by_uid, at }) = &backend.set_by_command {
        let ago = age::since(at, view.now).map_or_else(|| format!("at {at}"), |age| format!("{age} ago"));
        if let Some(weight) = weight {
            let text =
                format!("  ! {name}: weight {weight} set by uid {by_uid} {ago}; the file says {}", backend.file_weight);
            screen.text(Tone::Warning, &text);
        }
        if *drained {
            screen.text(Tone::Warning, &format!("  ! {name}: drained by uid {by_uid} {ago}"));
        }
    }
    // A drain is said above, with who asked for it.
    if let Some(reason) = backend.reason.as_ref().filter(|_| backend.state != BackendState::Draining) {
        screen.text(Tone::Warning, &format!("  ! {name}: {reason}"));
    }
}
