//! A list of prefixes: an array in the config, a file beside it, or both.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::beside::Beside;
use super::catalogue::Kind;
use super::diagnostic::{Problems, Span};
use super::prefix::{self, NoPrefix};
use super::reader::{Placed, Section};

/// Findings of one list that are said one by one; further ones are counted.
const SAID: usize = 10;
/// Four million prefixes, each of the longest form, are smaller.
const LARGEST_FILE_BYTES: u64 = 256 << 20;

/// Where an entry stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// In the config: the entry, or the key that names its file.
    span: Span,
    file: Option<(Arc<str>, usize)>,
}

impl Place {
    pub(super) fn words(&self, problems: &Problems<'_>) -> String {
        match &self.file {
            Some((file, line)) => format!("at {file}:{line}"),
            None => format!("on line {}", problems.line(&self.span)),
        }
    }
}

pub(super) struct Entry {
    pub(super) prefix: IpNet,
    pub(super) place: Place,
}

/// What is wrong with one entry.
pub(super) struct WrongEntry {
    pub(super) kind: Kind,
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) help: String,
}

/// Notes the first few, and how many there are beside them.
pub(super) fn note(wrong: Vec<WrongEntry>, problems: &Problems<'_>) {
    let rest = wrong.len().saturating_sub(SAID);
    for (number, WrongEntry { kind, place, message, help }) in wrong.into_iter().take(SAID).enumerate() {
        let file = place.file.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "));
        let more = if rest > 0 && number + 1 == SAID { format!("; {rest} more like it") } else { String::new() };
        problems.add(kind, place.span, format!("{file}{message}{more}"), help);
    }
}

/// The prefixes of `key` and of the file that `file_key` names, each once, and how many each of the two adds.
pub(super) struct List {
    pub(super) entries: Vec<Entry>,
    pub(super) sizes: Vec<Placed<usize>>,
    /// Nothing was wrong with it.
    pub(super) whole: bool,
}

/// `None` where neither key is there. `v4`: the family that the prefixes must have.
pub(super) fn list(
    section: &Section<'_>,
    (key, file_key): (&'static str, &'static str),
    beside: Beside<'_>,
    v4: Option<bool>,
) -> Option<List> {
    if !section.has(key) && !section.has(file_key) {
        return None;
    }
    let noted = section.problems.count();
    let mut reading = Reading { key, v4, seen: HashSet::new(), entries: Vec::new(), wrong: Vec::new() };
    let mut sizes = Vec::new();
    if let Some(texts) = section.texts(key) {
        for Placed { value, span } in texts.value {
            reading.entry(value, || Place { span: span.clone(), file: None });
        }
        sizes.push(Placed { value: reading.entries.len(), span: texts.span });
    }
    if let Some(name) = section.text(file_key) {
        let path = beside.directory.join(name.value);
        match content(&path, beside) {
            Ok(content) => {
                let before = reading.entries.len();
                reading.file(&content, &path, &name.span);
                sizes.push(Placed { value: reading.entries.len() - before, span: name.span });
            }
            Err(reason) => {
                let message = format!("`service.{file_key}`: {} {reason}", path.display());
                let help = "give the path of a text file with one prefix or address a line; where it is relative, \
                            from the directory of this config";
                section.problems.add(Kind::Unreadable, name.span, message, help);
            }
        }
    }
    note(reading.wrong, section.problems);
    Some(List { entries: reading.entries, sizes, whole: section.problems.count() == noted })
}

fn content(path: &Path, beside: Beside<'_>) -> Result<String, String> {
    beside.text(path, LARGEST_FILE_BYTES).map_err(|why| why.to_string())
}

/// The first characters: a file that was named by mistake is not shown.
fn quoted(text: &str) -> String {
    /// The longest prefix of IPv6 has 43.
    const MOST: usize = 43;
    match text.char_indices().nth(MOST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

struct Reading {
    key: &'static str,
    v4: Option<bool>,
    seen: HashSet<IpNet>,
    entries: Vec<Entry>,
    wrong: Vec<WrongEntry>,
}

impl Reading {
    /// One prefix or address a line; `#` begins a comment.
    fn file(&mut self, content: &str, path: &Path, span: &Span) {
        let name: Arc<str> = path.display().to_string().into();
        let content = content.strip_prefix('\u{feff}').unwrap_or(content);
        for (at, line) in content.lines().enumerate() {
            let text = line.split_once('#').map_or(line, |(text, _)| text).trim();
            if !text.is_empty() {
                self.entry(text, || Place { span: span.clone(), file: Some((Arc::clone(&name), at + 1)) });
            }
        }
    }

    fn entry(&mut self, text: &str, place: impl Fn() -> Place) {
        let mut refuse = |kind, message, help| self.wrong.push(WrongEntry { kind, place: place(), message, help });
        let prefix = match prefix::parse(text) {
            Ok(prefix) => prefix,
            Err(NoPrefix { reason, help }) => {
                let text = quoted(text);
                return refuse(Kind::Value, format!("{text} in `service.{}` {reason}", self.key), help);
            }
        };
        if let Some(v4) = self.v4.filter(|v4| *v4 != prefix.addr().is_ipv4()) {
            let (found, wanted) = if v4 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            let text = quoted(text);
            let message = format!("{text} in `service.{}` is {found}, but the service's address is {wanted}", self.key);
            return refuse(Kind::Mismatch, message, format!("remove it; only {wanted} packets reach this service"));
        }
        if self.seen.insert(prefix) {
            self.entries.push(Entry { prefix, place: place() });
        }
    }
}
