//! What `status` and `top` say alike of backends and of the whole.

use unicode_width::UnicodeWidthStr;

use crate::control::api::{BackendState, BackendStatus, Status};
use crate::spec::counted;

pub(super) fn takes_flows(backend: &BackendStatus) -> bool {
    backend.effective_weight > 0 && backend.state == BackendState::Up
}

/// How many of them take flows.
pub(super) fn up<'a>(backends: impl IntoIterator<Item = &'a BackendStatus>) -> usize {
    backends.into_iter().filter(|backend| takes_flows(backend)).count()
}

/// As a word of its own where a backend that fails is kept.
pub(super) fn state(backend: &BackendStatus) -> &'static str {
    match backend.state {
        BackendState::Down if backend.effective_weight > 0 => "down, kept",
        state => state.as_str(),
    }
}

/// The whole in a line, and whether every backend takes flows.
pub(super) fn headline(status: &Status) -> (String, bool) {
    let Status { node, services, generation, .. } = status;
    let all: usize = services.iter().map(|service| service.backends.len()).sum();
    let up = up(services.iter().flat_map(|service| &service.backends));
    let (of_services, of_all) = (counted(services.len(), "service"), counted(all, "backend"));
    (format!("{node}: {of_services}, {up} of {of_all} up, generation {generation}"), up == all)
}

/// In so many columns, at most: names differ in their ends more often than in their beginnings.
pub(super) fn shortened(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let end: String = text.chars().rev().take(room.saturating_sub(1)).collect();
    std::iter::once('…').chain(end.chars().rev()).collect()
}
