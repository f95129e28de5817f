//! One finding, as it is told.

use super::catalogue::Kind;
use crate::control::api::Finding;
use crate::spec::Severity;

/// What findings about no interface and no backend are about.
pub(super) const HOST: &str = "host";

impl Finding {
    /// `about` is [`HOST`], or the name of an interface, a service or a backend.
    pub(super) fn new(kind: Kind, about: impl ToString, message: impl Into<String>, help: impl Into<String>) -> Self {
        let entry = kind.entry();
        Self {
            id: entry.id.to_owned(),
            severity: entry.severity,
            about: about.to_string(),
            message: message.into(),
            help: help.into(),
        }
    }

    /// Whether it makes the answer no; notes don't.
    pub fn counts(&self) -> bool {
        self.severity > Severity::Note
    }
}
