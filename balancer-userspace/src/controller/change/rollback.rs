//! A generation of the history is brought back.

use std::time::Instant;

use crate::control::api::Reloaded;
use crate::controller::desired::whole::Whole;
use crate::controller::proposal::{ChangeRequest, Recorded};
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::history::digest;
use crate::spec::Loaded;

impl State {
    /// Brings back a generation of the history: the one named, or the one before what is in force, each time one further.
    /// What was in force before needs no acceptance.
    pub(crate) fn rollback(&mut self, generation: Option<u64>, asked: ChangeRequest) -> Result<Reloaded, Refusal> {
        if self.desired.probation.is_some() && generation.is_none() {
            return self.take_back(asked.reason.as_deref().unwrap_or("asked for"), asked.uid);
        }
        self.refuse_while_guarded()?;
        let outcome = self.try_rollback(generation, asked);
        self.desired.noted(outcome)
    }

    fn try_rollback(&mut self, generation: Option<u64>, mut asked: ChangeRequest) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let record = match generation {
            Some(number) => self.desired.recorded(number)?,
            None => {
                let in_force = digest(self.desired.text.as_bytes());
                let found = self.desired.history.one_back(&in_force, &self.desired.overrides);
                found.ok_or_else(|| Refusal::NotFound("the history has nothing before what is in force".to_owned()))?
            }
        };
        let text = self.desired.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        let (number, back_to) = (record.generation, self.desired.history.origin(record));
        let overrides = record.overrides.clone();
        let (Loaded { config, text, written }, found) =
            self.desired.judged_again(&format!("generation {number}"), text)?;
        self.desired.refuse_fixed(&config)?;
        asked.command = format!("rollback to generation {number}");
        let shares = self.all_shares();
        let next = Whole { config, text, written, found: found.findings, overrides };
        let (was, warnings) = match self.back(next, asked.said()) {
            Ok(done) => done,
            Err(refusal) => return Err(self.repaired(refusal)),
        };
        let recorded = Recorded { back_to: Some(back_to), ..self.applied() };
        self.record_as(asked, recorded);
        Ok(self.brought_back((&was.config, &shares), warnings, start))
    }
}
