//! `[service.quic]`, and the server ids that it needs of every backend.

use std::collections::HashMap;

use super::backend::{ReadBackend, ReadServerId};
use super::catalogue::Kind;
use super::diagnostic::{Problems, Span};
use super::reader::{Placed, Section};
use crate::model::{Protocol, Quic, ServerId};

pub(super) const QUIC_KEYS: &[&str] = &["config_id"];

pub(super) fn quic(service: &Section<'_>, protocol: Option<Protocol>, backends: &[ReadBackend]) -> Option<Quic> {
    if !service.has("quic") {
        unwanted(backends, service.problems);
        return None;
    }
    let section = service.section("quic", "service.quic", QUIC_KEYS)?;
    if let Some(other) = protocol.filter(|protocol| *protocol != Protocol::Udp) {
        service.problems.add(
            Kind::Mismatch,
            section.span.clone(),
            format!("[service.quic] is for udp, but the service's protocol is {other}"),
            "remove it, or set `protocol = \"udp\"`",
        );
    }
    let config_id = section.number("config_id", 0..=6).and_then(|id| u8::try_from(id.value).ok()).unwrap_or(0);
    Some(Quic { config_id, id_length: server_ids(backends, service.problems) })
}

fn unwanted(backends: &[ReadBackend], problems: &Problems<'_>) {
    for backend in backends {
        if let ReadServerId::Given(id) = &backend.server_id {
            problems.add(
                Kind::Mismatch,
                id.span.clone(),
                "`server_id` is for services with [service.quic]",
                "remove it, or add [service.quic] to the service",
            );
        }
    }
}

/// How long the ids are: the same for all, or what differs is noted. 1 where there is no backend.
fn server_ids(backends: &[ReadBackend], problems: &Problems<'_>) -> u8 {
    let mut first: Option<&Placed<ServerId>> = None;
    let mut seen: HashMap<ServerId, &Span> = HashMap::new();
    for backend in backends {
        let id = match &backend.server_id {
            ReadServerId::Given(id) => id,
            ReadServerId::Wrong => continue,
            ReadServerId::Absent => {
                problems.add(
                    Kind::MissingKey,
                    backend.span.clone(),
                    "`service.backend.server_id` is missing, which [service.quic] needs of every backend",
                    "add, for example, `server_id = \"0a1f\"`: the bytes that this backend puts into its connection IDs",
                );
                continue;
            }
        };
        let first = *first.get_or_insert(id);
        if first.value.length != id.value.length {
            let (length, others, line) = (id.value.length, first.value.length, problems.line(&first.span));
            let message = format!("this server id has {length} bytes, that on line {line} has {others}");
            problems.add(Kind::Mismatch, id.span.clone(), message, "make all of a service the same length");
        } else if let Some(span) = seen.insert(id.value, &id.span) {
            problems.add(
                Kind::Duplicate,
                id.span.clone(),
                "two backends of this service have the same server id",
                format!("give each its own; the first is on line {}", problems.line(span)),
            );
        }
    }
    first.map_or(1, |first| first.value.length)
}
