//! A config file as written, to a validated [`Config`]. All that is wrong is found in one go and said with its place.
//!
//! `reader` takes typed values out of TOML tables; `node`, `service` and what it is made of know the keys and what of one
//! service must fit together; `cross` and `overlap` what must fit together across services.

mod backend;
mod connections;
mod cross;
mod diagnostic;
mod forward;
mod guard;
mod health;
mod node;
mod overlap;
mod ports;
mod prefix;
mod prefix_list;
mod quic;
mod reader;
mod seen;
mod service;

use std::path::Path;

use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Diagnostics, Kind, Severity};

use self::diagnostic::Problems;
use self::reader::Section;
use crate::model::Config;

/// A valid config and the text it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub text: String,
}

/// Reads and validates the file at `path`.
///
/// # Errors
/// Everything that is wrong with it, each with its line and column.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let text = std::fs::read(path)
        .map_err(|error| Diagnostics::unreadable(&name, format!("can't be read: {error}")))
        .and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| Diagnostics::unreadable(&name, "is not UTF-8 text"))
    })?;
    let config = read(&name, &text, path.parent().unwrap_or(Path::new("")))?;
    Ok(Loaded { config, text })
}

/// Validates `text`; `file` is what diagnostics call it. Files that the text names are looked for beside it.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, Diagnostics> {
    read(file, text, Path::new(file).parent().unwrap_or(Path::new("")))
}

fn read(file: &str, text: &str, directory: &Path) -> Result<Config, Diagnostics> {
    let problems = Problems::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.add(Kind::Syntax, error.span().unwrap_or(0..0), error.message(), "");
    }
    // What the parser could recover of a broken document is no base for further complaints.
    if errors.is_empty() {
        let root = Section::new("", document.get_ref(), document.span(), ROOT_KEYS, &problems);
        let node = node::node(&root);
        let limits = node::limits(&root);
        let interfaces = node::interfaces(&root);
        let services = service::services(&root, directory);
        cross::check(&limits, &services, &problems);
        if problems.count() == 0 {
            let services = services.into_iter().filter_map(|service| service.model).collect();
            return Ok(Config { node, limits, interfaces, services });
        }
    }
    Err(problems.into_diagnostics())
}

const ROOT_KEYS: &[&str] = &["node", "limits", "interface", "service"];

/// Every key the reader knows, as `section.key`.
pub fn known_keys() -> Vec<String> {
    let sections = [
        ("node", node::NODE_KEYS),
        ("limits", node::LIMIT_KEYS),
        ("interface", node::INTERFACE_KEYS),
        ("service", service::SERVICE_KEYS),
        ("service.gue", forward::GUE_KEYS),
        ("service.connections", connections::CONNECTION_KEYS),
        ("service.quic", quic::QUIC_KEYS),
        ("service.health", health::HEALTH_KEYS),
        ("service.backend", backend::BACKEND_KEYS),
    ];
    sections.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect()
}

#[cfg(test)]
mod tests;
