//! A config file as written, to a validated [`Config`]. All that is wrong is found in one go and said with its place.
//!
//! `reader` takes typed values out of TOML tables; `node`, `service` and what it is made of know the keys and what of one
//! service must fit together; `cross` and `overlap` what must fit together across services.

mod amount;
mod backend;
mod beside;
mod catalogue;
mod connections;
mod control;
mod cross;
mod diagnostic;
mod forward;
mod guard;
mod health;
pub mod lint;
mod lint_policy;
mod node;
mod overlap;
mod ports;
mod prefix;
mod prefix_list;
mod profile;
mod quic;
mod reader;
mod seen;
mod service;
mod silence;
mod verify;
mod webhook;

use std::path::Path;

use toml::de::DeTable;

pub use beside::Beside;
pub(crate) use catalogue::entry;
pub use catalogue::{CATALOGUE, Entry, Kind, Severity, explained};
pub(crate) use diagnostic::counted;
pub use diagnostic::{Diagnostic, Diagnostics};

use self::diagnostic::Problems;
use self::reader::Section;
use crate::model::Config;
use crate::regular::{self, Unreadable};

/// No config is larger: ten thousand services with a hundred backends each are smaller.
const LARGEST_BYTES: u64 = 128 << 20;

/// A valid config and where everything in it stands.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub text: String,
    pub written: Written,
}

/// Where everything in a config stands; what findings about it are made of.
#[derive(Debug, Clone, Default)]
pub struct Written {
    file: String,
    /// Offsets in the text at which its lines begin.
    lines: Vec<usize>,
    /// In the order of the config's services.
    places: Vec<service::Read>,
    silences: Vec<silence::Silence>,
}

/// Reads and validates the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its line and column.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    read(&path.display().to_string(), text(path)?, path.parent().unwrap_or(Path::new("")))
}

/// The content of the file at `path`.
///
/// # Errors
/// Where it can't be read, is no regular file, is too large or is no text.
pub fn text(path: &Path) -> Result<String, Diagnostics> {
    content(path).map_err(|why| {
        let place = match why {
            Unreadable::NoText { line, byte, .. } => (line, byte),
            _ => (1, 1),
        };
        Diagnostics::unreadable(&path.display().to_string(), place, &why.to_string())
    })
}

/// The same, for whoever only compares it.
///
/// # Errors
/// As [`text`].
pub fn content(path: &Path) -> Result<String, Unreadable> {
    regular::text(path, LARGEST_BYTES)
}

/// Validates `text`; `file` is what diagnostics call it. Files that the text names are looked for beside it.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, Diagnostics> {
    let directory = Path::new(file).parent().unwrap_or(Path::new(""));
    read(file, text.to_owned(), directory).map(|loaded| loaded.config)
}

/// Validates `text`; `file` is what diagnostics call it, `beside` is where relative paths in it start.
///
/// # Errors
/// As [`load`].
pub fn read<'a>(file: &str, text: String, beside: impl Into<Beside<'a>>) -> Result<Loaded, Diagnostics> {
    let beside = beside.into();
    let problems = Problems::some(file, &text);
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        problems.add(Kind::Syntax, error.span().unwrap_or(0..0), error.message(), "");
    }
    // What the parser could recover of a broken document is no base for further complaints.
    if errors.is_empty() {
        let root = Section::new("", document.get_ref(), document.span(), ROOT_KEYS, &problems);
        let node = node::node(&root, beside);
        let limits = node::limits(&root);
        let interfaces = node::interfaces(&root);
        let mut places = service::services(&root, beside);
        let silences = silence::silences(&root);
        cross::check(&limits, &places, &problems);
        silence::check(&silences, &places, &problems);
        if problems.count() == 0 {
            let services = places.iter_mut().filter_map(|service| service.model.take()).collect();
            let config = Config { node, limits, interfaces, services };
            drop(document);
            let written = Written { file: file.to_owned(), lines: diagnostic::lines(&text), places, silences };
            return Ok(Loaded { config, text, written });
        }
    }
    Err(problems.into_diagnostics())
}

const ROOT_KEYS: &[&str] = &[
    "node",
    "limits",
    "interface",
    "service",
    "silence",
    "guard",
    "verify",
    "alarm",
    "webhook",
    "profile",
    "lint",
    "control",
];

/// Every key the reader knows, as `section.key`.
pub fn known_keys() -> Vec<String> {
    let sections = [
        ("node", node::NODE_KEYS),
        ("control", control::CONTROL_KEYS),
        ("limits", node::LIMIT_KEYS),
        ("interface", node::INTERFACE_KEYS),
        ("service", service::SERVICE_KEYS),
        ("service.gue", forward::GUE_KEYS),
        ("service.connections", connections::CONNECTION_KEYS),
        ("service.quic", quic::QUIC_KEYS),
        ("service.health", health::HEALTH_KEYS),
        ("service.backend", backend::BACKEND_KEYS),
        ("service.peak", amount::AMOUNT_KEYS),
        ("service.backend.capacity", amount::AMOUNT_KEYS),
        ("guard", node::GUARD_KEYS),
        ("verify", verify::VERIFY_KEYS),
        ("alarm", verify::ALARM_KEYS),
        ("webhook", verify::WEBHOOK_KEYS),
        ("profile", profile::PROFILE_KEYS),
        ("silence", silence::SILENCE_KEYS),
        ("lint", lint_policy::LINT_KEYS),
    ];
    sections.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect()
}

#[cfg(test)]
mod tests;
