//! What runs against what was planned, as people read it.

use std::fmt::Write;
use std::time::Duration;

use super::render::{percent, table, text};
use crate::control::api::{Verification, VerifiedBackend, VerifiedService};

pub(super) fn verification(verification: &Verification) -> String {
    let mut out = String::new();
    for service in &verification.services {
        out += &self::service(service);
    }
    for gap in &verification.asked_for {
        let _ = writeln!(out, "asked for {gap}");
    }
    if verification.gaps.is_empty() {
        let _ = writeln!(out, "no gaps (compared in {:.0} ms)", verification.seconds * 1000.0);
    }
    for gap in &verification.gaps {
        let _ = writeln!(out, "GAP {} -> {}: {gap}", gap.from, gap.to);
        let _ = writeln!(out, "  `balancer runbook {}` says what to do", gap.alarm);
    }
    out
}

fn service(service: &VerifiedService) -> String {
    let mut out = format!("{}: {:.0} new flows/s", service.name, service.new_flows_per_second);
    if let Some(why) = &service.unjudged {
        let _ = write!(out, "; observed shares are not judged: {why}");
    }
    out.push('\n');
    let mut rows =
        table(&["backend", "configured", "effective", "planned", "kernel", "observed", "", "+20 % would show in"], 1);
    for backend in &service.backends {
        let VerifiedBackend { name, share, shows_after_seconds, skew } = backend;
        let skew = skew.map_or_else(String::new, |skew| format!("{:+.0} %", skew.effect * 100.0));
        let mut row = vec![name.to_string()];
        row.extend([share.config, share.effective, share.planned, share.kernel, share.observed].map(percent));
        row.extend([skew, shows_after_seconds.map_or_else(|| "-".to_owned(), duration)]);
        rows.add_row(row);
    }
    out + &text(&rows)
}

/// Two units at most.
fn duration(seconds: f64) -> String {
    let whole = match seconds {
        ..3600.0 => Duration::from_secs(seconds.ceil() as u64),
        ..86_400.0 => Duration::from_secs((seconds / 60.0).ceil() as u64 * 60),
        _ => Duration::from_secs((seconds / 3600.0).ceil() as u64 * 3600),
    };
    humantime::format_duration(whole).to_string()
}
