//! What is wrong, by cause: a server that is down in twenty services is one line.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::screen::{Screen, Tone};
use super::{View, age};
use crate::alarm::{Alarm, Severity, catalogue};
use crate::control::api::{Guard, Status};

/// Names of services in one line, at most.
const NAMED: usize = 6;

/// Fills in what is wrong; answers whether anything is.
pub(super) fn wrong(screen: &mut Screen, status: &Status, view: &View<'_>) -> bool {
    if let Some(Guard { command, step, steps, seconds_left, .. }) = &status.guard {
        let text = format!(
            "ON PROBATION: {command}: step {step} of {steps}, taken back in {seconds_left} s unless `balancer confirm` comes"
        );
        screen.text(Tone::Warning, &text);
    }
    if let Some(refused) = &status.config_refused {
        screen.text(Tone::Bad, "THE LAST RELOAD WAS REFUSED: what is in force is older than the file");
        for line in refused.lines() {
            screen.text(Tone::Plain, &format!("  {line}"));
        }
    }
    for sentence in &status.not_written {
        screen.text(Tone::Bad, &format!("NOT WRITTEN: {sentence}"));
    }
    for interface in &status.interfaces {
        if interface.attached.is_none() || interface.problem.is_some() {
            let problem = interface.problem.as_deref().unwrap_or("the program is not on it");
            screen.text(Tone::Bad, &format!("interface {}: NOT ATTACHED: {problem}", interface.name));
        }
    }
    let shown: Vec<&Alarm> = status.alarms.iter().filter(|alarm| alarm.severity != Severity::Info).collect();
    for alarm in &shown {
        if let Some(group) = group(alarm, &shown, status) {
            said(screen, alarm, &group, view);
        }
    }
    status.guard.is_some() || status.config_refused.is_some() || !status.not_written.is_empty() || !shown.is_empty()
}

fn said(screen: &mut Screen, alarm: &Alarm, what: &str, view: &View<'_>) {
    let tone = if alarm.severity == Severity::Critical { Tone::Bad } else { Tone::Warning };
    let for_how_long = age::since(&alarm.since, view.now).map_or(String::new(), |age| format!(", for {age}"));
    let severity = alarm.severity.as_str().to_uppercase();
    screen.text(tone, &format!("{severity}{for_how_long}: {what} ({})", alarm.alarm));
}

/// What this alarm says for all of its cause, where it is the first of them.
fn group(alarm: &Alarm, all: &[&Alarm], status: &Status) -> Option<String> {
    let Some(address) = address(alarm, status) else { return Some(alarm.summary.clone()) };
    let same = all.iter().filter(|other| other.alarm == alarm.alarm && self::address(other, status) == Some(address));
    let same: Vec<&&Alarm> = same.collect();
    match same[..] {
        [] | [_] => Some(alarm.summary.clone()),
        [first, ..] if !std::ptr::eq(*first, alarm) => None,
        _ => {
            let mut by_summary: BTreeMap<&str, usize> = BTreeMap::new();
            for other in &same {
                *by_summary.entry(reason(&other.summary)).or_default() += 1;
            }
            let most = by_summary.iter().max_by_key(|(_, count)| **count).map_or("", |(reason, _)| reason);
            let names: Vec<String> =
                same.iter().filter_map(|other| other.subject.service.as_ref()).map(ToString::to_string).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let is_down = if alarm.alarm == catalogue::BACKEND_DOWN.name { " is down" } else { "" };
            Some(format!("{address}{is_down} in {} services ({names}{more}): {most}", same.len()))
        }
    }
}

/// What of a summary stands behind the name of the backend.
fn reason(summary: &str) -> &str {
    summary.split_once(": ").map_or(summary, |(_, reason)| reason)
}

/// Of the server that an alarm is about.
fn address(alarm: &Alarm, status: &Status) -> Option<IpAddr> {
    let (service, backend) = (alarm.subject.service.as_ref()?, alarm.subject.backend.as_ref()?);
    let service = status.services.iter().find(|status| status.name == *service)?;
    service.backends.iter().find(|status| status.name == *backend).map(|status| status.address)
}
