//! What is wrong, where, and what would be right.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Kinds of problems; the identifier of each is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unreadable,
    Syntax,
    UnknownKey,
    MissingKey,
    Value,
    Duplicate,
    Address,
    Limit,
    Mismatch,
    AmbiguousReply,
    Unavailable,
}

impl Kind {
    pub fn id(self) -> &'static str {
        match self {
            Self::Unreadable => "BAL001",
            Self::Syntax => "BAL002",
            Self::UnknownKey => "BAL003",
            Self::MissingKey => "BAL004",
            Self::Value => "BAL005",
            Self::Duplicate => "BAL006",
            Self::Address => "BAL007",
            Self::Limit => "BAL008",
            Self::Mismatch => "BAL009",
            Self::AmbiguousReply => "BAL010",
            Self::Unavailable => "BAL011",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
}

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
    /// The line, and how many characters of it are meant.
    #[serde(skip)]
    pub source: String,
    #[serde(skip)]
    pub width: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, file, line, column, message, help, source, width, .. } = self;
        writeln!(f, "{file}:{line}:{column}: error: {message} [{id}]")?;
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
        let count = self.findings.len();
        write!(f, "{count} {} found; nothing was applied", if count == 1 { "error" } else { "errors" })
    }
}

impl Diagnostics {
    pub(super) fn unreadable(file: &str, message: impl Into<String>) -> Self {
        let finding = Diagnostic {
            id: Kind::Unreadable.id(),
            severity: Severity::Error,
            file: file.to_owned(),
            line: 1,
            column: 1,
            message: format!("the file {}", message.into()),
            help: "give the path of a TOML file; docs/config.md describes it".to_owned(),
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
        let line = self.line(&span);
        let start = self.lines[line - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        let before = self.text.get(start..span.start).unwrap_or("");
        let meant = self.text.get(span.start..span.end).unwrap_or("").lines().next().unwrap_or("");
        let diagnostic = Diagnostic {
            id: kind.id(),
            severity: Severity::Error,
            file: self.file.to_owned(),
            line,
            column: before.chars().count() + 1,
            message: message.into(),
            help: help.into(),
            source: source.to_owned(),
            width: meant.chars().count().max(1),
        };
        self.found.borrow_mut().push((span, diagnostic));
    }

    pub(super) fn into_diagnostics(self) -> Diagnostics {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(span, _)| span.start);
        Diagnostics { findings: found.into_iter().map(|(_, diagnostic)| diagnostic).collect() }
    }
}
