//! Statuses as they are shown, kept as text: `UPDATE_GOLDEN=1 cargo test cli::status` writes them again.

use std::time::Duration;

use super::screen::Tone;
use super::{Sort, View, csv, plain, text};
use crate::alarm::{Alarm, Severity, Subject};
use crate::control::api::{
    BackendState, BackendStatus, Guard, InterfaceStatus, Override, ServiceStatus, Shares, Status,
};
use crate::model::{Affinity, ForwardMode, Protocol, XdpMode};

const NOW: &str = "2026-11-20T12:00:00Z";

fn view(width: usize) -> View<'static> {
    let now = humantime::parse_rfc3339(NOW).unwrap();
    View { width, now, whole: false, down_only: false, sort: Sort::Config, before: None }
}

fn backend(number: u8, state: BackendState) -> BackendStatus {
    let weight = if state == BackendState::Up { 100 } else { 0 };
    let share = Some(f64::from(weight) / 300.0);
    BackendStatus {
        name: format!("web-{number}").parse().unwrap(),
        address: [10, 0, 0, number].into(),
        port: 80,
        weight: 100,
        file_weight: 100,
        set_by_command: None,
        effective_weight: weight,
        state,
        reason: None,
        share: Shares { config: Some(1.0 / 3.0), effective: share, planned: share, kernel: share, observed: share },
        packets: 1200,
        bytes: 96_000,
        new_flows: 310,
        check_seconds: None,
        check_failures: 0,
    }
}

pub(in crate::cli) fn service(name: &str, backends: Vec<BackendStatus>) -> ServiceStatus {
    ServiceStatus {
        name: name.parse().unwrap(),
        protocol: Protocol::Tcp,
        address: [192, 0, 2, 10].into(),
        port: 443,
        forward: ForwardMode::Ipip,
        affinity: Affinity::Flow,
        table_size: 65_537,
        ports: "443".to_owned(),
        prefix_len: 32,
        open_slots: 0,
        former_mapping: false,
        flow_table_entries: 7,
        flow_table_capacity: 1000,
        leaving: Vec::new(),
        events: Default::default(),
        backends,
    }
}

pub(in crate::cli) fn node(services: Vec<ServiceStatus>) -> Status {
    Status {
        findings: Vec::new(),
        alarms: Vec::new(),
        node: "edge-1".to_owned(),
        version: "0.1.0".to_owned(),
        generation: 7,
        config_file: "/etc/balancer/balancer.toml".to_owned(),
        config_applied_at: "2026-11-20T09:00:00Z".to_owned(),
        config_refused: None,
        not_written: Vec::new(),
        guard: None,
        interfaces: vec![InterfaceStatus {
            name: "eth0".to_owned(),
            wanted: XdpMode::Auto,
            attached: Some(XdpMode::Native),
            problem: None,
        }],
        services,
        dropped: Default::default(),
    }
}

pub(in crate::cli) fn three(state: BackendState) -> Vec<BackendStatus> {
    vec![backend(11, state), backend(12, BackendState::Up), backend(13, BackendState::Up)]
}

fn down(service: &str) -> Alarm {
    Alarm {
        alarm: "BalancerBackendDown".to_owned(),
        severity: Severity::Warning,
        subject: Subject::backend(&service.parse().unwrap(), &"web-11".parse().unwrap()),
        summary: format!("{service}/web-11 is down: tcp connect to 10.0.0.11:443: connection refused"),
        since: "2026-11-20T11:55:00Z".to_owned(),
        until: None,
    }
}

/// One server that is down in twenty services.
fn outage() -> Status {
    let names: Vec<String> = (1..=20).map(|number| format!("shop-{number:02}")).collect();
    let mut status = node(names.iter().map(|name| service(name, three(BackendState::Down))).collect());
    for service in &mut status.services {
        service.backends[0].reason = Some("tcp connect to 10.0.0.11:443: connection refused".to_owned());
    }
    status.alarms = names.iter().map(|name| down(name)).collect();
    status
}

/// Everything that can be wrong at once.
pub(in crate::cli) fn troubled() -> Status {
    let mut backends = three(BackendState::Down);
    backends[0].reason = Some("http GET /healthz from 10.0.0.11:80: status 503".to_owned());
    let at = "2026-11-20T11:58:00Z".to_owned();
    backends[1].set_by_command = Some(Override { weight: Some(50), drained: true, by_uid: 1000, at });
    backends[1].state = BackendState::Draining;
    backends[1].effective_weight = 0;
    backends[2].state = BackendState::Down;
    backends[2].reason = Some("kept: 2 of 3 failed within one window".to_owned());
    let mut web = service("web", backends);
    web.open_slots = 36_761;
    web.leaving = vec!["old".parse().unwrap()];
    web.events = [("flow_table_full".to_owned(), 3), ("quic_routed".to_owned(), 0)].into();
    let mut status = node(vec![web, service("api", three(BackendState::Up))]);
    status.config_refused = Some("balancer.toml:3:1: error: unknown key".to_owned());
    status.not_written = vec!["the history: No space left on device".to_owned()];
    status.guard = Some(Guard { command: "apply of new.toml".to_owned(), step: 1, steps: 3, seconds_left: 80 });
    status.interfaces.push(InterfaceStatus {
        name: "eth1".to_owned(),
        wanted: XdpMode::Auto,
        attached: None,
        problem: Some("interface eth1 is gone".to_owned()),
    });
    status.alarms = vec![down("web")];
    status.dropped = [("no_backend".to_owned(), 3)].into();
    status
}

#[test]
fn statuses_are_shown_on_80_columns() {
    let well = node(vec![service("web", three(BackendState::Up)), service("api", three(BackendState::Up))]);
    let mut said = String::new();
    for (what, status, view) in [
        ("well", &well, view(80)),
        ("troubled", &troubled(), view(80)),
        ("one server down in twenty services", &outage(), view(80)),
        ("only what is down", &outage(), View { down_only: true, ..view(80) }),
        ("forty columns", &troubled(), view(40)),
    ] {
        let shown = plain(status, &view);
        for line in shown.lines() {
            assert!(line.chars().count() <= view.width, "{line}");
        }
        said += &format!("==== {what}\n{shown}\n");
    }
    crate::cli::golden::golden("status.txt", &said);
}

#[test]
fn an_outage_of_one_server_is_one_alarm_line() {
    let said = plain(&outage(), &view(80));
    assert_eq!(said.matches("BalancerBackendDown").count(), 1, "{said}");
    assert!(said.contains("10.0.0.11 is down in 20 services"), "{said}");
    assert!(said.lines().count() < 40, "{}", said.lines().count());
}

#[test]
fn a_terminal_of_20_columns_still_says_what_is_down() {
    let said = plain(&outage(), &view(5));
    assert!(said.lines().all(|line| line.chars().count() <= 30), "{said}");
    assert!(said.contains("down"), "{said}");
}

#[test]
fn rates_are_those_between_two_statuses() {
    let before = node(vec![service("web", three(BackendState::Up))]);
    let mut now = before.clone();
    now.services[0].backends[1].new_flows += 5000;
    now.services[0].backends[1].bytes += 2_500_000;
    let view = View { before: Some((&before, Duration::from_secs(2))), ..view(100) };
    let said = plain(&now, &view);
    assert!(said.contains("2500") && said.contains("10.0M"), "{said}");
}

#[test]
fn colours_are_never_alone() {
    let status = outage();
    let screen = text::status(&status, &view(80));
    let coloured = screen.coloured();
    assert!(coloured.contains("\x1b["));
    let stripped = [Tone::Bold, Tone::Good, Tone::Warning, Tone::Bad, Tone::Faint].iter();
    let stripped = stripped.fold(coloured, |text, tone| text.replace(tone.code(), "")).replace("\x1b[0m", "");
    assert_eq!(stripped, screen.plain());
}

#[test]
fn names_that_steer_a_terminal_do_not() {
    let mut status = outage();
    status.node = "\x1b[2J\nedge".to_owned();
    status.services[0].backends[0].reason = Some("\x1b]0;owned\x07".to_owned());
    assert!(!plain(&status, &view(80)).contains('\x1b'));
}

#[test]
fn csv_quotes_what_has_commas() {
    let mut status = node(vec![service("web", three(BackendState::Down))]);
    status.services[0].backends[0].reason = Some("said \"no\", twice".to_owned());
    let said = csv::csv(&status);
    assert_eq!(said.lines().count(), 4);
    assert!(said.contains("\"said \"\"no\"\", twice\""), "{said}");
    let fields = |line: &str| line.matches(',').count();
    assert_eq!(fields(said.lines().next().unwrap()), fields(said.lines().nth(2).unwrap()));
}
