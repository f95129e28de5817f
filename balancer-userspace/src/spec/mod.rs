//! A config file as written, to a validated [`Config`]. All that is wrong is found in one go and said with its place.
//!
//! `reader` takes typed values out of TOML tables, `node` and `service` know the keys, `cross` what must fit together.

mod cross;
mod diagnostic;
mod node;
mod reader;
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
    let config = parse(&name, &text)?;
    Ok(Loaded { config, text })
}

/// Validates `text`; `file` is what diagnostics call it.
///
/// # Errors
/// As [`load`].
pub fn parse(file: &str, text: &str) -> Result<Config, Diagnostics> {
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
        let services = service::services(&root);
        cross::check(&limits, &services, &problems);
        if problems.is_empty() {
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
        ("service.health", service::HEALTH_KEYS),
        ("service.backend", service::BACKEND_KEYS),
    ];
    sections.iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}"))).collect()
}

#[cfg(test)]
mod tests;
