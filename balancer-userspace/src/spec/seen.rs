//! What must not stand in a file twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::diagnostic::{Problems, Span};

/// Values seen, and where first.
pub(super) struct Seen<K>(HashMap<K, Span>);

impl<K: Eq + Hash> Seen<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// The line on which the value stood before.
    pub(super) fn before(&mut self, value: K, span: &Span, problems: &Problems<'_>) -> Option<usize> {
        match self.0.entry(value) {
            Entry::Occupied(entry) => Some(problems.line(entry.get())),
            Entry::Vacant(entry) => {
                entry.insert(span.clone());
                None
            }
        }
    }
}
