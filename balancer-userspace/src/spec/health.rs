//! `[service.health]`.

use std::time::Duration;

use super::catalogue::Kind;
use super::ports;
use super::reader::{Placed, Section};
use crate::model::{CheckKind, HealthCheck, Jitter, Ports, Protocol};

pub(super) const HEALTH_KEYS: &[&str] =
    &["kind", "port", "path", "host", "interval", "timeout", "rise", "fall", "jitter"];

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn health(service: &Section<'_>, protocol: Option<Protocol>, ports: Option<&Placed<Ports>>) -> HealthCheck {
    let mut check = default_check(protocol);
    let section = service.section("health", "service.health", HEALTH_KEYS);
    if let Some(section) = &section {
        // Of a kind that is wrong nothing more is asked.
        check.kind = kind(section).unwrap_or(CheckKind::None);
        check.port = section.port("port").map(|port| port.value);
        times(section, &mut check);
    }
    let named = section.as_ref().is_some_and(|section| section.has("port"));
    let several = ports.filter(|ports| !matches!(ports.value, Ports::One(_)));
    if let (Some(several), false, CheckKind::Tcp | CheckKind::Http { .. }) = (several, named, &check.kind) {
        service.problems.add(
            Kind::MissingKey,
            section.map_or(several.span.clone(), |section| section.span),
            format!("the check needs a port, but the service is on {}", ports::words(several.value)),
            "set `service.health.port`, or `kind = \"none\"` in [service.health]",
        );
    }
    check
}

/// TCP services are checked by connecting.
fn default_check(protocol: Option<Protocol>) -> HealthCheck {
    HealthCheck {
        kind: if protocol == Some(Protocol::Tcp) { CheckKind::Tcp } else { CheckKind::None },
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        jitter: Jitter::DEFAULT,
    }
}

fn kind(section: &Section<'_>) -> Option<CheckKind> {
    let path = section.text("path");
    let host = section.text("host");
    let sendable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/') || !sendable(path.value)) {
        let message =
            "`service.health.path` must start with `/` and have neither blanks nor control characters, in ASCII";
        section.wrong(path.span.clone(), message, "such as \"/healthz\"; a blank is written \"%20\"");
    }
    let is_host = |text: &str| !text.is_empty() && sendable(text) && !text.contains('/');
    if let Some(host) = host.as_ref().filter(|host| !is_host(host.value)) {
        let message = "`service.health.host` must be a host's name as in a URL: no blanks, control characters or `/`";
        section.wrong(host.span.clone(), message, "such as \"shop.example\"; without it the backend's address is sent");
    }
    let http = CheckKind::Http {
        path: path.as_ref().map_or("/", |path| path.value).to_owned(),
        host: host.as_ref().map(|host| host.value.to_owned()),
    };
    let kinds = [("none", &CheckKind::None), ("tcp", &CheckKind::Tcp), ("http", &http)];
    let later = ["https", "udp", "icmp", "dns", "exec", "agent"];
    let kind = section.required("kind", "\"http\"", |key| section.choice(key, &kinds, &later))?.value;
    if let (CheckKind::None | CheckKind::Tcp, Some(text)) = (kind, path.or(host)) {
        section.problems.add(
            Kind::Mismatch,
            text.span,
            "`path` and `host` are for http checks only",
            "remove it, or set `kind = \"http\"`",
        );
    }
    Some(kind.clone())
}

fn times(section: &Section<'_>, check: &mut HealthCheck) {
    if let Some(interval) = section.duration("interval") {
        if interval.value < SHORTEST_INTERVAL {
            section.wrong(interval.span, "`service.health.interval` is below 100ms", "write at least \"100ms\"");
        }
        check.interval = interval.value;
    }
    match section.duration("timeout") {
        Some(timeout) if timeout.value > check.interval || timeout.value.is_zero() => {
            let interval = humantime::format_duration(check.interval);
            section.wrong(
                timeout.span,
                "`service.health.timeout` must be above 0 and no longer than the interval",
                format!("the interval is {interval}"),
            );
        }
        Some(timeout) => check.timeout = timeout.value,
        None => check.timeout = check.timeout.min(check.interval),
    }
    check.rise = section.number("rise", 1..=1000).map_or(check.rise, |rise| rise.value);
    check.fall = section.number("fall", 1..=1000).map_or(check.fall, |fall| fall.value);
    if let Some(fraction) = section.fraction("jitter") {
        match Jitter::from_fraction(fraction.value) {
            Some(jitter) => check.jitter = jitter,
            None => section.wrong(fraction.span, "`service.health.jitter` is out of range", "write 0.0 to 0.5"),
        }
    }
}
