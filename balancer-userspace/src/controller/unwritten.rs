//! What is in force and not yet on disk. A way back never waits for the disk: what could not be written is tried again each
//! second, and until it is there status, an alarm and the answers say so.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::history::Entry;
use crate::state::Writing;

/// A file of what is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    File,
    Overrides,
    Guard,
    Places,
    Generation,
    History,
}

impl Part {
    /// Which it is, and what a restart does while it is not written.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::File => "the config file: a restart brings back what stands in it",
            Self::Overrides => "weights and drains set by command: a restart brings back the earlier ones",
            Self::Guard => "the end of a guarded change: a restart takes that change back once more",
            Self::Places => "places in the kernel's maps: a restart finds the earlier ones",
            Self::Generation => "the number of the generation: a restart takes the next one of the history",
            Self::History => "the history: records are missing in it",
        }
    }
}

/// Parts that could not be written, and why.
#[derive(Default)]
pub(crate) struct Unwritten {
    pub(crate) parts: BTreeMap<Part, String>,
    /// Records that the history has not taken, oldest first.
    pub(crate) records: Vec<Entry>,
    /// What commands set, while it is being written.
    pub(crate) writing: Option<Writing>,
}

impl Unwritten {
    /// Notes how an attempt ended. Answers whether that is news.
    pub(crate) fn note(&mut self, part: Part, outcome: &Result<()>) -> bool {
        match outcome {
            Ok(()) => self.parts.remove(&part).is_some(),
            Err(error) => self.parts.insert(part, format!("{error:#}")).is_none(),
        }
    }

    /// Whether any of these is not on disk.
    pub(crate) fn misses(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.parts.contains_key(part))
    }

    /// One sentence a part; none where all is on disk.
    pub(crate) fn said(&self) -> Vec<String> {
        self.parts.iter().map(|(part, why)| format!("not on disk: {} ({why})", part.says())).collect()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_not_on_disk_is_said_until_it_is() {
        let full = || -> Result<()> { bail!("No space left on device") };
        let mut unwritten = Unwritten::default();
        assert!(!unwritten.note(Part::File, &Ok(())), "it was there all the time");
        assert!(unwritten.note(Part::File, &full()));
        assert!(!unwritten.note(Part::File, &full()), "said once");
        unwritten.note(Part::History, &full());
        let said = unwritten.said();
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("the config file") && said[0].contains("No space left"), "{said:?}");
        assert!(unwritten.note(Part::File, &Ok(())));
        assert_eq!(unwritten.said().len(), 1);
    }
}
