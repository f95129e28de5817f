//! What tells two values apart that read alike: people see a part of an entry, and the difference may be in the rest.

use std::fmt::Debug;

/// Both texts, told apart: where they are the same, with the fields of the values that differ.
pub(crate) fn told_apart<T: Debug + PartialEq>(texts: (String, String), values: (&T, &T)) -> (String, String) {
    let (written, found) = texts;
    if written != found || values.0 == values.1 {
        return (written, found);
    }
    let fields = [values.0, values.1].map(|value| format!("{value:?}"));
    let [a, b] = fields.each_ref().map(|text| text.split(", ").collect::<Vec<_>>());
    let only = |of: &[&str], other: &[&str]| {
        let differs = |(place, field): (usize, &&str)| (other.get(place) != Some(field)).then(|| clean(field));
        let differing: Vec<String> = of.iter().enumerate().filter_map(differs).collect();
        if differing.is_empty() { "other bytes that are not used".to_owned() } else { differing.join(", ") }
    };
    (format!("{written} ({})", only(&a, &b)), format!("{found} ({})", only(&b, &a)))
}

/// A field without the braces of what it is part of.
fn clean(field: &str) -> String {
    let inner = field.rsplit(['{', '(']).next().unwrap_or(field);
    inner.trim().trim_end_matches([' ', '}', ')']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Entry {
        port: u16,
        mtu: u16,
        words: [u8; 2],
    }

    fn same() -> (String, String) {
        ("port 1".to_owned(), "port 1".to_owned())
    }

    #[test]
    fn what_reads_alike_shows_the_fields_that_differ() {
        let entry = |mtu, last| Some(Entry { port: 1, mtu, words: [7, last] });
        let (written, found) = told_apart(same(), (&entry(1500, 8), &entry(1400, 8)));
        assert_eq!((written.as_str(), found.as_str()), ("port 1 (mtu: 1500)", "port 1 (mtu: 1400)"));
        let (written, found) = told_apart(same(), (&entry(1500, 8), &entry(1500, 9)));
        assert_ne!(written, found);
    }

    #[test]
    fn what_reads_differently_stays() {
        let texts = ("a".to_owned(), "b".to_owned());
        assert_eq!(told_apart(texts.clone(), (&1, &2)), texts);
        assert_eq!(told_apart(same(), (&1, &1)), same());
    }
}
