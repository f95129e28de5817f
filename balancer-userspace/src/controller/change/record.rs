//! What was brought into force goes into the history.

use std::time::SystemTime;

use crate::controller::proposal::{ChangeRequest, Recorded};
use crate::controller::state::State;
use crate::controller::unwritten::Part;
use crate::history::{Entry, Outcome, digest};

impl State {
    /// Adds what is in force to the history. Where that fails the change stays, and answer, log and alarm say so.
    pub(crate) fn record(&mut self, asked: ChangeRequest) {
        let recorded = self.applied();
        self.record_as(asked, recorded);
    }

    /// What is in force.
    pub(crate) fn applied(&self) -> Recorded {
        let (text, overrides) = (self.desired.text.clone(), self.desired.overrides.clone());
        Recorded { generation: self.kernel.generation, text, overrides, outcome: Outcome::Applied, back_to: None }
    }

    /// Every record has a number of its own, above all before it.
    pub(crate) fn record_as(&mut self, asked: ChangeRequest, recorded: Recorded) {
        let waiting = self.unwritten.records.last().map(|entry| entry.generation);
        let last = waiting.or(self.desired.history.last().map(|record| record.generation));
        let generation = recorded.generation.max(last.map_or(0, |last| last + 1));
        self.kernel.generation = self.kernel.generation.max(generation);
        self.unwritten.records.push(Entry {
            generation,
            at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            uid: asked.uid,
            command: asked.command,
            reason: asked.reason,
            accepted: asked.accept,
            back_to: recorded.back_to,
            text: recorded.text,
            overrides: recorded.overrides,
            findings: self.desired.judged.ids(),
            result: recorded.outcome,
        });
        // What can't be written is tried again, and said until it is.
        self.keep(Part::History).ok();
        self.keep(Part::Generation).ok();
    }

    /// The same where it is another than the last.
    pub(crate) fn record_if_new(&mut self, asked: ChangeRequest) {
        let content = digest(self.desired.text.as_bytes());
        let overrides = &self.desired.overrides;
        let same = match self.unwritten.records.last() {
            Some(waiting) => waiting.text == self.desired.text && waiting.overrides == *overrides,
            None => self.desired.history.last().is_some_and(|r| r.content == content && r.overrides == *overrides),
        };
        if !same {
            self.record(asked);
        }
    }
}
