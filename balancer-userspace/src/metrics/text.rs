//! Prometheus' text format (exposition format 0.0.4), written as it goes: a scrape of a large config has half a million lines.

use std::fmt::Write;

/// Labels between their braces, and the value.
pub(super) type Sample = (String, f64);

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Such as `service="web",backend="a"`.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

/// A metric with its samples; one without samples is left out of a page.
pub(super) struct Family {
    text: String,
    head: usize,
    name: &'static str,
}

impl Family {
    pub(super) fn new(name: &'static str, help: &str, kind: Kind) -> Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { head: text.len(), text, name }
    }

    /// `labels` and `more` as of [`labels`]; `more` is empty or begins with a comma.
    pub(super) fn add(&mut self, labels: &str, more: &str, value: f64) {
        self.text.push_str(self.name);
        if !labels.is_empty() {
            for part in ["{", labels, more, "}"] {
                self.text.push_str(part);
            }
        }
        self.text.push(' ');
        // A whole number, as most are, takes a fraction of the time.
        let written = if value.fract() == 0.0 && value.abs() < 1e15 {
            write!(self.text, "{}", value as i64)
        } else {
            write!(self.text, "{value}")
        };
        debug_assert!(written.is_ok(), "a text takes what is written to it");
        self.text.push('\n');
    }

    pub(super) fn text(&self) -> Option<&str> {
        (self.text.len() > self.head).then_some(&self.text)
    }
}

fn family(name: &'static str, help: &str, kind: Kind, samples: Vec<Sample>) -> Family {
    let mut family = Family::new(name, help, kind);
    samples.into_iter().for_each(|(labels, value)| family.add(&labels, "", value));
    family
}

pub(super) fn counter(name: &'static str, help: &str, samples: Vec<Sample>) -> Family {
    family(name, help, Kind::Counter, samples)
}

pub(super) fn gauge(name: &'static str, help: &str, samples: Vec<Sample>) -> Family {
    family(name, help, Kind::Gauge, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_may_not_hold_is_escaped_and_nothing_is_no_family() {
        let family = gauge("up", "Up.", vec![(labels(&[("a", "x\"y\\z\n"), ("b", "")]), 0.5)]);
        assert_eq!(family.text(), Some("# HELP up Up.\n# TYPE up gauge\nup{a=\"x\\\"y\\\\z\\n\",b=\"\"} 0.5\n"));
        assert_eq!(counter("up", "Up.", Vec::new()).text(), None);
        assert_eq!(counter("n", "N.", vec![(String::new(), 3.0)]).text(), Some("# HELP n N.\n# TYPE n counter\nn 3\n"));
    }
}
