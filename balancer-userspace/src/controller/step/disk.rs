//! What is in force is written to disk; what the disk does not take is tried again each second.

use anyhow::{Result, bail};

use crate::controller::state::State;
use crate::controller::unwritten::Part;

impl State {
    /// Writes what is in force of this part. Where that fails, it is tried again each second.
    ///
    /// # Errors
    /// Why it could not be written.
    pub(crate) fn keep(&mut self, part: Part) -> Result<()> {
        if part == Part::Overrides {
            // Or what is older would come later.
            self.end_writing().ok();
        }
        let outcome = self.write(part);
        self.noted(part, outcome)
    }

    /// Begins to write what commands set. The step waits for it before it writes to the kernel.
    pub(crate) fn begin_overrides(&mut self) {
        self.end_writing().ok();
        self.unwritten.writing = Some(self.store.begin_overrides(&self.desired.overrides));
    }

    /// Waits for what is being written.
    ///
    /// # Errors
    /// Why it could not be written.
    pub(crate) fn end_writing(&mut self) -> Result<()> {
        let Some(writing) = self.unwritten.writing.take() else { return Ok(()) };
        let outcome = writing.end();
        self.noted(Part::Overrides, outcome)
    }

    fn noted(&mut self, part: Part, outcome: Result<()>) -> Result<()> {
        if self.unwritten.note(part, &outcome) {
            match &outcome {
                Ok(()) => log::info!("on disk again: {}", part.says()),
                Err(error) => log::error!("not on disk: {} ({error:#}); tried again each second", part.says()),
            }
        }
        outcome
    }

    pub(crate) fn write(&mut self, part: Part) -> Result<()> {
        match part {
            Part::File => self.desired.write_file(),
            Part::Overrides => self.store.save_overrides(&self.desired.overrides),
            Part::Guard => self.write_guard(),
            Part::Places => self.store.save_allocations(&self.kernel.allocations),
            Part::Generation => self.store.save_generation(self.kernel.generation, self.desired.history.head()),
            Part::History => self.write_records(),
        }
    }

    fn write_records(&mut self) -> Result<()> {
        while let Some(entry) = self.unwritten.records.first() {
            self.desired.history.add(entry.clone(), self.desired.config.node.history)?;
            self.unwritten.records.remove(0);
            log::info!("generation {}: the history's head is {}", self.kernel.generation, self.desired.history.head());
        }
        Ok(())
    }

    /// Tries again what could not be written; each second.
    pub(crate) fn write_unwritten(&mut self) {
        let parts: Vec<Part> = self.unwritten.parts.keys().copied().collect();
        for part in parts {
            // Already logged, and said until it is written.
            self.keep(part).ok();
        }
    }

    /// The end of a guarded change is noted once what it went back to is on disk: until then a restart takes it back.
    pub(crate) fn write_guard(&mut self) -> Result<()> {
        let fallback = self.desired.fallback();
        if fallback.is_none() && self.unwritten.misses(&[Part::File, Part::Overrides]) {
            bail!("what it goes back to is not on disk yet");
        }
        self.store.save_guard(fallback.as_ref())
    }
}
