//! What arguments stand for.

use std::time::Duration;

use crate::model::{BackendName, NameError, Protocol, ServiceName};

/// Seconds of a duration such as `90s` or `5m`.
pub(super) fn guard(text: &str) -> Result<u32, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; such as 2m"))?;
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    if (4..=86_400).contains(&seconds) { Ok(seconds) } else { Err("write 4s to 24h".to_owned()) }
}

/// A duration such as `500ms` or `30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; such as 30s"))?;
    let possible = Duration::from_millis(100)..=Duration::from_secs(86_400);
    if possible.contains(&duration) { Ok(duration) } else { Err("write 100ms to 24h".to_owned()) }
}

/// The path of an HTTP request, which nothing may follow on its line.
pub(super) fn path(text: &str) -> Result<String, String> {
    let good = text.starts_with('/') && text.chars().all(|letter| letter.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("write a path such as /index.html".to_owned()) }
}

/// A service, or one of its backends.
pub(super) fn examined(text: &str) -> Result<(ServiceName, Option<BackendName>), NameError> {
    match text.split_once('/') {
        None => Ok((text.parse()?, None)),
        Some((service, backend)) => Ok((service.parse()?, Some(backend.parse()?))),
    }
}

pub(in crate::cli) fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err("write tcp, udp or sctp".to_owned()),
    }
}
