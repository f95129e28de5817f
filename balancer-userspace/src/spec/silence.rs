//! `[[silence]]`: findings that are as they should be, and why.

use super::catalogue::{self, Kind};
use super::diagnostic::{Problems, Span};
use super::reader::{Placed, Section};
use super::service::Read;

pub(super) const SILENCE_KEYS: &[&str] = &["id", "service", "backend", "reason"];

#[derive(Debug, Clone)]
pub(super) struct Silence {
    pub(super) id: &'static str,
    pub(super) service: Option<Placed<String>>,
    pub(super) backend: Option<Placed<String>>,
    pub(super) reason: String,
    pub(super) span: Span,
}

pub(super) fn silences(root: &Section<'_>) -> Vec<Silence> {
    root.sections("silence", "silence", SILENCE_KEYS).iter().filter_map(silence).collect()
}

fn silence(section: &Section<'_>) -> Option<Silence> {
    let id = section.required("id", "\"BAL016\"", |key| section.text(key));
    let reason = section.required("reason", "\"b2 is a smaller machine\"", |key| section.text(key));
    let service = section.text("service").map(|text| text.map(str::to_owned));
    let backend = section.text("backend").map(|text| text.map(str::to_owned));
    if let (Some(backend), None) = (&backend, &service) {
        let message = "`silence.backend` needs `silence.service`: a backend is one of a service";
        section.problems.add(Kind::Mismatch, backend.span.clone(), message, "add `service = \"…\"`");
    }
    let (id, reason) = (id?, reason?);
    if reason.value.trim().is_empty() {
        section.wrong(reason.span, "`silence.reason` is empty", "say why this is as it should be");
        return None;
    }
    let Some(entry) = catalogue::explained(id.value) else {
        section.wrong(id.span, format!("`silence.id` = {:?} is no finding", id.value), "such as \"BAL016\"");
        return None;
    };
    if (entry.kind as usize) < Kind::Overload as usize {
        let message = format!("{} can't be silenced: a config that has it is not valid", entry.id);
        section.wrong(id.span, message, "put right what it says");
        return None;
    }
    Some(Silence { id: entry.id, service, backend, reason: reason.value.to_owned(), span: section.span.clone() })
}

/// Services and backends that silences name must be there.
pub(super) fn check(silences: &[Silence], services: &[Read], problems: &Problems<'_>) {
    for silence in silences {
        let Some(name) = &silence.service else { continue };
        let service = services.iter().find(|s| s.name.as_ref().is_some_and(|n| n.value.as_str() == name.value));
        let Some(service) = service else {
            let message = format!("there is no service {:?}", name.value);
            problems.add(
                Kind::Value,
                name.span.clone(),
                message,
                "name a service of this file, or leave it out for all",
            );
            continue;
        };
        if let Some(name) = &silence.backend
            && !service.backends.iter().any(|backend| backend.name.value.as_str() == name.value)
        {
            let message = format!("the service has no backend {:?}", name.value);
            problems.add(Kind::Value, name.span.clone(), message, "name one of its backends, or leave it out for all");
        }
    }
}

impl Silence {
    /// `subject` as in a finding.
    pub(super) fn covers(&self, id: &str, subject: Option<&str>) -> bool {
        let Some(service) = &self.service else { return self.id == id };
        let (of, backend) = match subject.map(|subject| subject.split_once('/').unwrap_or((subject, ""))) {
            Some(names) => names,
            None => return false,
        };
        let same_backend = self.backend.as_ref().is_none_or(|name| name.value == backend);
        self.id == id && service.value == of && same_backend
    }
}
