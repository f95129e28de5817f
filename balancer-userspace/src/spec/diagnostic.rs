//! What is wrong, where, and what would be right.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::catalogue::{Kind, Severity};
use super::silence::Silence;

#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// How bad it is beside others of its kind about the same, such as the part of a capacity; 0 where there is no more or less.
    #[serde(skip)]
    pub degree: f64,
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
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
pub struct Diagnostics {
    pub findings: Vec<Diagnostic>,
    /// Errors beyond those that were looked at closely.
    #[serde(rename = "more_findings", skip_serializing_if = "is_zero")]
    pub more: usize,
}

/// Findings that are shown at a time.
const MOST_SHOWN: usize = 100;
/// Errors of a file that are kept.
const MOST_ERRORS: usize = 500;
/// Bytes of a line that is shown, and of a message.
const LONGEST_LINE: usize = 400;
const LONGEST_MESSAGE: usize = 2000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (worst, more) = self.worst();
        worst.iter().try_for_each(|finding| finding.fmt(f))?;
        if more > 0 {
            writeln!(f, "{} not shown", counted(more, "more finding"))?;
        }
        write!(f, "{} found; nothing was applied", counted(self.count(Severity::Error), "error"))
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

    /// The service and the backend that it is about, where it is about one.
    pub fn about(&self) -> (Option<&str>, Option<&str>) {
        match self.subject.as_deref().map(|subject| subject.split_once('/').unwrap_or((subject, ""))) {
            Some((service, "")) => (Some(service), None),
            Some((service, backend)) => (Some(service), Some(backend)),
            None => (None, None),
        }
    }
}

impl Diagnostics {
    /// Findings of a severity that are not silenced.
    pub fn count(&self, severity: Severity) -> usize {
        let alike = |finding: &&Diagnostic| finding.severity == severity && finding.silenced.is_none();
        let more = if severity == Severity::Error { self.more } else { 0 };
        self.findings.iter().filter(alike).count() + more
    }

    /// As many findings as people can read, the worst of them, in the order of lines; and how many are left out.
    pub fn worst(&self) -> (Vec<&Diagnostic>, usize) {
        let mut places: Vec<usize> = (0..self.findings.len()).collect();
        places.sort_by_key(|place| {
            let finding = &self.findings[*place];
            (finding.silenced.is_some(), Reverse(finding.severity))
        });
        places.truncate(MOST_SHOWN);
        places.sort_unstable();
        let more = self.findings.len() - places.len() + self.more;
        (places.into_iter().map(|place| &self.findings[place]).collect(), more)
    }

    /// Errors before warnings, what is silenced last; of one severity in the order of the lines.
    pub fn worst_first(mut self) -> Self {
        self.findings.sort_by_key(|finding| (finding.silenced.is_some(), Reverse(finding.severity)));
        self
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
            degree: 0.0,
        };
        Self { findings: vec![finding], more: 0 }
    }
}

/// A byte range of the file.
pub(super) type Span = Range<usize>;

/// Collects problems while a file is read.
pub(super) struct Problems<'a> {
    file: &'a str,
    text: &'a str,
    lines: Cow<'a, [usize]>,
    found: RefCell<Vec<(Span, Diagnostic)>>,
    /// How many are kept, and how many were not.
    most: usize,
    more: Cell<usize>,
}

/// Offsets at which lines begin.
pub(super) fn lines(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self::at(file, text, Cow::Owned(lines(text)))
    }

    /// Where the beginnings of the lines are known.
    pub(super) fn with_lines(file: &'a str, text: &'a str, lines: &'a [usize]) -> Self {
        Self::at(file, text, Cow::Borrowed(lines))
    }

    /// Of a file that may be wrong in every line.
    pub(super) fn some(file: &'a str, text: &'a str) -> Self {
        Self { most: MOST_ERRORS, ..Self::new(file, text) }
    }

    fn at(file: &'a str, text: &'a str, lines: Cow<'a, [usize]>) -> Self {
        Self { file, text, lines, found: RefCell::default(), most: usize::MAX, more: Cell::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.found.borrow().len() + self.more.get()
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
        self.add_graded(kind, 0.0, subject, span, message, help);
    }

    /// The same with how bad it is.
    pub(super) fn add_graded(
        &self,
        kind: Kind,
        degree: f64,
        subject: Option<String>,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.found.borrow().len() >= self.most {
            return self.more.set(self.more.get() + 1);
        }
        let line = self.line(&span);
        let start = self.lines[line - 1];
        let source = self.text[start..].lines().next().unwrap_or("");
        // Nobody reads a longer one.
        let source = if source.len() > LONGEST_LINE { "" } else { source };
        let before = self.text.get(start..span.start).unwrap_or("");
        let meant = self.text.get(span.start..span.end).unwrap_or("").lines().next().unwrap_or("");
        let diagnostic = Diagnostic {
            id: kind.id(),
            severity: kind.entry().severity,
            file: self.file.to_owned(),
            line,
            column: before.chars().count() + 1,
            message: shortened(message.into()),
            help: shortened(help.into()),
            silenced: None,
            subject,
            source: source.to_owned(),
            width: meant.chars().count().max(1),
            degree,
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
        Diagnostics { findings: found.into_iter().map(|(_, diagnostic)| diagnostic).collect(), more: self.more.get() }
    }
}

/// What quotes a value may be as long as the file.
fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text += "…";
    }
    text
}
