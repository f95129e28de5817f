//! `[service.connections]`.

use std::time::Duration;

use super::catalogue::Kind;
use super::reader::Section;
use crate::model::{Connections, Protocol, Tracking, WhenFull};

pub(super) const CONNECTION_KEYS: &[&str] =
    &["quiet", "drain_deadline", "flow_table", "when_full", "tracking", "window"];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

const WHEN_FULL: &[(&str, WhenFull)] = &[("settled", WhenFull::Settled), ("drop", WhenFull::Drop)];
const TRACKING: &[(&str, Tracking)] =
    &[("none", Tracking::None), ("window", Tracking::Window(DEFAULT_WINDOW)), ("full", Tracking::Full)];

pub(super) fn connections(service: &Section<'_>, protocol: Option<Protocol>) -> Connections {
    let default = Connections::DEFAULT;
    let Some(section) = service.section("connections", "service.connections", CONNECTION_KEYS) else { return default };
    let quiet = section.duration_within("quiet", SECOND..=DAY).map_or(default.quiet, |quiet| quiet.value);
    Connections {
        quiet,
        drain_deadline: drain_deadline(&section, quiet),
        flow_table: section.number("flow_table", 64..=16_777_216).map_or(default.flow_table, |entries| entries.value),
        when_full: section.choice("when_full", WHEN_FULL, &[]).map_or(default.when_full, |word| word.value),
        tracking: tracking(&section, protocol, quiet),
    }
}

fn drain_deadline(section: &Section<'_>, quiet: Duration) -> Duration {
    let default = Connections::DEFAULT.drain_deadline.max(quiet);
    let Some(deadline) = section.duration_within("drain_deadline", SECOND..=WEEK) else { return default };
    if deadline.value < quiet {
        let quiet = humantime::format_duration(quiet);
        let message =
            "`service.connections.drain_deadline` is shorter than `quiet`, so that no slot would ever fall quiet";
        section.wrong(deadline.span, message, format!("write at least \"{quiet}\", or a shorter `quiet`"));
    }
    deadline.value
}

fn tracking(section: &Section<'_>, protocol: Option<Protocol>, quiet: Duration) -> Tracking {
    let tracking = section.choice("tracking", TRACKING, &[]);
    let window = section.duration_within("window", SECOND..=HOUR);
    let mismatch = |span, message: String, help: &str| section.problems.add(Kind::Mismatch, span, message, help);
    if let Some(other) = protocol.filter(|protocol| *protocol != Protocol::Udp) {
        let spans = [("tracking", tracking.as_ref().map(|t| &t.span)), ("window", window.as_ref().map(|w| &w.span))];
        for (key, span) in spans.into_iter().filter_map(|(key, span)| Some((key, span?.clone()))) {
            let message = format!("`service.connections.{key}` is for udp; flows of {other} are always kept");
            mismatch(span, message, "remove it");
        }
        return Connections::DEFAULT.tracking;
    }
    let tracking = tracking.map_or(Connections::DEFAULT.tracking, |tracking| tracking.value);
    let Tracking::Window(default) = tracking else {
        if let Some(window) = window {
            let message = "`service.connections.window` is for `tracking = \"window\"`".to_owned();
            mismatch(window.span, message, "remove it, or set `tracking = \"window\"`");
        }
        return tracking;
    };
    match window {
        Some(window) if window.value > quiet => {
            let message = "`service.connections.window` is longer than `quiet`";
            let help = format!("write at most \"{}\", or a longer `quiet`", humantime::format_duration(quiet));
            section.wrong(window.span, message, help);
            tracking
        }
        Some(window) => Tracking::Window(window.value),
        None => Tracking::Window(default.min(quiet)),
    }
}
