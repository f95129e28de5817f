//! What is wrong, where, and what would be right.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::catalogue::{Kind, Severity};
use super::silence::Silence;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub id: &'static str,
    pub severity: Severity,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
    /// Why the file says that this is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silenced: Option<String>,
    /// Of a finding about a service or a backend, its name: `web` or `web/b1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The line, and how many characters of it are meant.
    #[serde(skip)]
    pub source: String,
    #[serde(skip)]
    pub width: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, file, line, column, message, help, source, width, .. } = self;
        let severity = self.severity.as_str();
        writeln!(f, "{file}:{line}:{column}: {severity}: {message} [{id}]")?;
        if !source.is_empty() {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs keep their width, so that the carets stand under what they mean.
            let indent: String = source.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{margin} |\n{number} | {source}\n{margin} | {indent}{}", "^".repeat(*width))?;
        }
        if !help.is_empty() {
            writeln!(f, "  help: {help}")?;
        }
        if let Some(reason) = &self.silenced {
            writeln!(f, "  silenced: {reason}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Diagnostics {
    pub findings: Vec<Diagnostic>,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            finding.fmt(f)?;
        }
        let errors = self.count(Severity::Error);
        write!(f, "{} found; nothing was applied", counted(errors, "error"))
    }
}

/// Such as "1 error" or "2 errors".
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl Diagnostic {
    /// An error or a warning that the file does not silence.
    pub fn counts(&self) -> bool {
        self.silenced.is_none() && self.severity > Severity::Note
    }
}

impl Diagnostics {
    /// Findings of a severity that are not silenced.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity && finding.silenced.is_none()).count()
    }

    pub(super) fn unreadable(file: &str, (line, column): (usize, usize), why: &str) -> Self {
        let finding = Diagnostic {
            id: Kind::Unreadable.id(),
            severity: Severity::Error,
            file: file.to_owned(),
            line,
            column,
            message: format!("the file {why}"),
            help: "give the path of a TOML file; docs/config.md describes it".to_owned(),
            silenced: None,
            subject: None,
            source: String::new(),
            width: 0,
        };
        Self { findings: vec![finding] }
    }
}

/// A byte range of the file.
pub(super) type Span = Range<usize>;

/// Collects problems while a file is read.
pub(super) struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    found: RefCell<Vec<(Span, Diagnostic)>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, lines, found: RefCell::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// The line, from 1.
    pub(super) fn line(&self, span: &Span) -> usize {
        self.lines.partition_point(|start| *start <= span.start).max(1)
    }

    pub(super) fn add(&self, kind: Kind, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add_about(kind, None, span, message, help);
    }

    /// The same about a service or a backend of this name.
    pub(super) fn add_about(
        &self,
        kind: Kind,
        subject: Option<String>,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let line = self.line(&span);
        let start = self.lines[line - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        let before = self.text.get(start..span.start).unwrap_or("");
        let meant = self.text.get(span.start..span.end).unwrap_or("").lines().next().unwrap_or("");
        let diagnostic = Diagnostic {
            id: kind.id(),
            severity: kind.entry().severity,
            file: self.file.to_owned(),
            line,
            column: before.chars().count() + 1,
            message: message.into(),
            help: help.into(),
            silenced: None,
            subject,
            source: source.to_owned(),
            width: meant.chars().count().max(1),
        };
        self.found.borrow_mut().push((span, diagnostic));
    }

    /// Marks what `silences` cover with their reasons; says of each whether it covers anything.
    pub(super) fn silence(&self, silences: &[Silence]) -> Vec<bool> {
        let mut used = vec![false; silences.len()];
        for (_, finding) in self.found.borrow_mut().iter_mut() {
            for (silence, used) in silences.iter().zip(&mut used) {
                if silence.covers(finding.id, finding.subject.as_deref()) {
                    *used = true;
                    finding.silenced = Some(silence.reason.clone());
                }
            }
        }
        used
    }

    pub(super) fn into_diagnostics(self) -> Diagnostics {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(span, _)| span.start);
        Diagnostics { findings: found.into_iter().map(|(_, diagnostic)| diagnostic).collect() }
    }
}
