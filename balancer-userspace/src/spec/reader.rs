//! Typed values out of a TOML table. What is missing or wrong is noted, and `None` or the default goes on, so that the
//! rest of the file is read as well.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::catalogue::Kind;
use super::diagnostic::{Problems, Span};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

impl<T> Placed<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> Placed<U> {
        Placed { value: f(self.value), span: self.span }
    }
}

/// A table and its name, such as `service.health`.
pub(super) struct Section<'a> {
    name: &'static str,
    table: &'a DeTable<'a>,
    pub(super) span: Span,
    pub(super) problems: &'a Problems<'a>,
}

impl<'a> Section<'a> {
    /// Notes every key of the table that is none of `known`.
    pub(super) fn new(
        name: &'static str,
        table: &'a DeTable<'a>,
        span: Span,
        known: &'static [&'static str],
        problems: &'a Problems<'a>,
    ) -> Self {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let help = match nearest(key.get_ref(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("keys here are: {}", known.join(", ")),
            };
            let place = if name.is_empty() { String::new() } else { format!(" in {name}") };
            problems.add(Kind::UnknownKey, key.span(), format!("unknown key `{}`{place}", key.get_ref()), help);
        }
        Self { name, table, span, problems }
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    pub(super) fn wrong(&self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.add(Kind::Value, span, message, help);
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.wrong(value.span(), format!("`{}` is {}, not {wanted}", self.key(key), article(found)), "");
    }

    /// Notes that `key` is missing.
    pub(super) fn missing(&self, key: &str, example: &str) {
        let message = format!("`{}` is missing", self.key(key));
        self.problems.add(
            Kind::MissingKey,
            self.span.clone(),
            message,
            format!("add, for example, `{key} = {example}`"),
        );
    }

    /// Reads `key`; a key that isn't there is noted, one that is wrong `read` noted already.
    pub(super) fn required<T>(&self, key: &str, example: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if self.has(key) {
            return read(key);
        }
        self.missing(key, example);
        None
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    pub(super) fn text(&self, key: &str) -> Option<Placed<&'a str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Placed { value: text.as_ref(), span: value.span() }),
            _ => {
                self.wrong_type(key, value, "a string");
                None
            }
        }
    }

    /// An array of strings; what is no string in it is noted and left out.
    pub(super) fn texts(&self, key: &str) -> Option<Placed<Vec<Placed<&'a str>>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, value, "an array of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Placed { value: text.as_ref(), span: item.span() }),
                _ => self.wrong_type(key, item, "a string; the array holds strings only"),
            }
        }
        Some(Placed { value: texts, span: value.span() })
    }

    /// Names and strings of the inline table at `key`; what is no string in it is noted and left out.
    pub(super) fn text_table(&self, key: &str) -> Vec<(Placed<&'a str>, Placed<&'a str>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(key, value, "a table of strings, such as { Name = \"value\" }");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (name, item) in table.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    let name = Placed { value: name.get_ref().as_ref(), span: name.span() };
                    texts.push((name, Placed { value: text.as_ref(), span: item.span() }));
                }
                _ => self.wrong_type(key, item, "a table of strings; it holds strings only"),
            }
        }
        texts
    }

    /// A string that parses as `T`.
    pub(super) fn parsed<T: FromStr>(&self, key: &str, help: &str) -> Option<Placed<T>>
    where
        T::Err: Display,
    {
        let text = self.text(key)?;
        match text.value.parse() {
            Ok(value) => Some(Placed { value, span: text.span }),
            Err(error) => {
                let message = format!("`{}` = {:?}: {error}", self.key(key), text.value);
                self.wrong(text.span, message, help);
                None
            }
        }
    }

    pub(super) fn address(&self, key: &str) -> Option<Placed<IpAddr>> {
        self.parsed(key, "write an IPv4 or IPv6 address, such as \"192.0.2.10\" or \"2001:db8::10\"")
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if let DeValue::Boolean(boolean) = value.get_ref() {
            return Some(*boolean);
        }
        self.wrong_type(key, value, "true or false");
        None
    }

    /// A whole number; any sign, any radix that TOML has.
    fn whole(&self, key: &str) -> Option<Placed<i128>> {
        let value = self.get(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(Placed { value: number, span: value.span() }),
            Err(error) => {
                self.wrong(value.span(), format!("`{}`: {error}", self.key(key)), "");
                None
            }
        }
    }

    pub(super) fn number<T>(&self, key: &str, range: RangeInclusive<T>) -> Option<Placed<T>>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let whole = self.whole(key)?;
        match T::try_from(whole.value) {
            Ok(value) if range.contains(&value) => Some(Placed { value, span: whole.span }),
            _ => {
                let (from, to) = (range.start(), range.end());
                let message = format!("`{}` = {} is out of range", self.key(key), whole.value);
                self.wrong(whole.span, message, format!("write a number from {from} to {to}"));
                None
            }
        }
    }

    pub(super) fn port(&self, key: &str) -> Option<Placed<u16>> {
        self.number(key, 1..=u16::MAX)
    }

    /// 64 bits, as a number or, because TOML's numbers end at 63, as a string.
    pub(super) fn seed(&self, key: &str) -> Option<u64> {
        let help = "write a number, or a string such as \"0x1f2e3d4c5b6a7988\"";
        if self.get(key)?.get_ref().is_str() {
            let text = self.text(key)?;
            let parsed = match text.value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => text.value.parse(),
            };
            return parsed.map_err(|error| self.wrong(text.span, format!("`{}`: {error}", self.key(key)), help)).ok();
        }
        let whole = self.whole(key)?;
        let number = u64::try_from(whole.value);
        number.map_err(|_| self.wrong(whole.span, format!("`{}` must not be negative", self.key(key)), help)).ok()
    }

    pub(super) fn fraction(&self, key: &str) -> Option<Placed<f64>> {
        let value = self.get(key)?;
        let text = match value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => {
                self.wrong_type(key, value, "a number");
                return None;
            }
        };
        text.parse().ok().map(|number| Placed { value: number, span: value.span() })
    }

    pub(super) fn duration(&self, key: &str) -> Option<Placed<Duration>> {
        let text = self.text(key)?;
        match humantime::parse_duration(text.value) {
            Ok(value) => Some(Placed { value, span: text.span }),
            Err(error) => {
                let message = format!("`{}` = {:?} is no duration: {error}", self.key(key), text.value);
                self.wrong(text.span, message, "write a number and a unit, such as \"2s\" or \"500ms\"");
                None
            }
        }
    }

    pub(super) fn duration_within(&self, key: &str, range: RangeInclusive<Duration>) -> Option<Placed<Duration>> {
        let duration = self.duration(key)?;
        if range.contains(&duration.value) {
            return Some(duration);
        }
        let [found, from, to] = [duration.value, *range.start(), *range.end()].map(humantime::format_duration);
        let message = format!("`{}` = \"{found}\" is out of range", self.key(key));
        self.wrong(duration.span, message, format!("write \"{from}\" to \"{to}\""));
        None
    }

    /// One of a few words. A word of `later` is one that a later version will know.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)], later: &[&str]) -> Option<Placed<T>> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(Placed { value: *value, span: text.span });
        }
        let choices: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = format!("one of: {}", choices.join(", "));
        if later.contains(&text.value) {
            let message = format!("`{}` = {:?} is not available in this version", self.key(key), text.value);
            self.problems.add(Kind::Unavailable, text.span, message, help);
        } else {
            let message = format!("`{}` = {:?} is unknown", self.key(key), text.value);
            let near = nearest(text.value, &choices).map_or(help, |near| format!("did you mean {near:?}?"));
            self.wrong(text.span, message, near);
        }
        None
    }

    /// The table at `key`.
    pub(super) fn section(&self, key: &str, name: &'static str, known: &'static [&'static str]) -> Option<Section<'a>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(name, table, value.span(), known, self.problems)),
            _ => {
                self.wrong_type(key, value, &format!("a table; write [{name}]"));
                None
            }
        }
    }

    /// Where the value of `key` stands.
    pub(super) fn span_of(&self, key: &str) -> Option<Span> {
        self.get(key).map(Spanned::span)
    }

    /// The tables of the array at `key`.
    pub(super) fn sections(&self, key: &str, name: &'static str, known: &'static [&'static str]) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(key, value, &format!("an array of tables; write [[{name}]]"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(Section::new(name, table, item.span(), known, self.problems)),
                _ => self.wrong_type(key, item, &format!("a table; write [[{name}]]")),
            }
        }
        sections
    }
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

/// The known word that differs least, if it differs little.
fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let distance = |known: &&&str| edit_distance(word, known);
    let near = known.iter().min_by_key(distance)?;
    (edit_distance(word, near) <= 1 + word.len() / 4).then_some(*near)
}

/// Levenshtein's distance, with a swap of neighbours as one step.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
