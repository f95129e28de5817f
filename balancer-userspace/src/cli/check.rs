//! `balancer check`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::args::Format;
use super::{NO, print};
use crate::host;
use crate::spec::lint::Host;
use crate::spec::{self, CATALOGUE, Diagnostic, Diagnostics, Severity, counted};

/// What is not said without `--here`.
const LEFT_OUT: &str = "addresses and MTUs of this host (`--here`)";

/// `here`: the file is for this host.
pub(super) fn run(file: Option<&Path>, explain: Option<&str>, here: bool, format: Format) -> Result<ExitCode> {
    if let Some(id) = explain {
        return explained(id);
    }
    let file = file.context("no file")?;
    let (findings, valid) = match spec::load(file) {
        Ok(loaded) => {
            let config = &loaded.config;
            let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
            let size = format!("{}, {}", counted(config.services.len(), "service"), counted(backends, "backend"));
            let host = if here { host::facts() } else { Host::default() };
            (loaded.findings(&host), Some(size))
        }
        Err(problems) => (problems, None),
    };
    match format {
        Format::Text => print(&text(file, &findings, valid.as_deref(), here))?,
        Format::Json => print(&(json_text(&findings, here || valid.is_none())? + "\n"))?,
        Format::Sarif => print(&(serde_json::to_string_pretty(&sarif(&findings))? + "\n"))?,
    }
    Ok(if findings.findings.iter().any(Diagnostic::counts) { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

fn explained(id: &str) -> Result<ExitCode> {
    let entry = spec::explained(id).with_context(|| {
        format!("there is no finding {id:?}; they are {} to {}", CATALOGUE[0].id, CATALOGUE[CATALOGUE.len() - 1].id)
    })?;
    let severity = entry.severity.as_str();
    print(&format!("{}, {severity}: {}\n\n{}\n", entry.id, entry.title, entry.explanation))?;
    Ok(ExitCode::SUCCESS)
}

fn json_text(findings: &Diagnostics, whole: bool) -> Result<String> {
    let mut value = serde_json::to_value(findings)?;
    if !whole {
        value["left_out"] = json!(LEFT_OUT);
    }
    Ok(value.to_string())
}

/// `valid` says what is in a file that is valid.
fn text(file: &Path, findings: &Diagnostics, valid: Option<&str>, here: bool) -> String {
    let (worst, more) = findings.worst();
    let mut shown: String = worst.into_iter().map(ToString::to_string).collect();
    if more > 0 {
        shown += &format!("{} not shown (`--json` has them)\n", counted(more, "more finding"));
    }
    let count = |severity| findings.count(severity);
    let silenced = findings.findings.iter().filter(|finding| finding.silenced.is_some()).count();
    let mut counts = Vec::new();
    for (severity, what) in [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")] {
        if count(severity) > 0 {
            counts.push(counted(count(severity), what));
        }
    }
    if counts.is_empty() {
        counts.push("nothing wrong".to_owned());
    }
    if silenced > 0 {
        counts.push(format!("{silenced} silenced"));
    }
    let size = valid.map(|size| format!(" ({size})")).unwrap_or_default();
    let advice = match findings.findings.iter().find(|finding| finding.counts()) {
        Some(finding) => format!("`balancer check --explain {}` says more\n", finding.id),
        None => String::new(),
    };
    let left_out = if here || valid.is_none() { String::new() } else { format!("not looked at: {LEFT_OUT}\n") };
    format!("{shown}{}: {}{size}\n{left_out}{advice}", file.display(), counts.join(", "))
}

/// SARIF 2.1.0 (OASIS), which code hosts show beside a proposed change.
fn sarif(findings: &Diagnostics) -> Value {
    let rules: Vec<Value> = CATALOGUE
        .iter()
        .map(|entry| {
            json!({
                "id": entry.id,
                "shortDescription": {"text": entry.title},
                "fullDescription": {"text": entry.explanation},
                "defaultConfiguration": {"level": entry.severity.as_str()},
            })
        })
        .collect();
    let result = |finding: &Diagnostic| {
        let region = json!({"startLine": finding.line, "startColumn": finding.column});
        let location = json!({"artifactLocation": {"uri": finding.file}, "region": region});
        let text = [&finding.message, &finding.help].map(String::as_str).join("; ");
        let mut result = json!({
            "ruleId": finding.id,
            "level": finding.severity.as_str(),
            "message": {"text": text.trim_end_matches("; ")},
            "locations": [{"physicalLocation": location}],
        });
        if let Some(reason) = &finding.silenced {
            result["suppressions"] = json!([{"kind": "inSource", "justification": reason}]);
        }
        result
    };
    let results: Vec<Value> = findings.findings.iter().map(result).collect();
    let driver = json!({"name": "balancer", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    })
}
