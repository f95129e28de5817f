//! What the history has.

use crate::control::api::Generation;
use crate::controller::desired::Desired;
use crate::controller::desired::listed::listed;
use crate::controller::refusal::Refusal;
use crate::history::Record;

impl Desired {
    /// A generation of the history, with the content of its config file.
    pub(crate) fn stored(&self, number: u64) -> Result<Generation, Refusal> {
        let record = self.recorded(number)?;
        let text = self.history.content(record).map_err(|error| Refusal::Failed(format!("{error:#}")))?;
        Ok(Generation { record: record.clone(), text })
    }

    pub(crate) fn recorded(&self, number: u64) -> Result<&Record, Refusal> {
        self.history.find(number).ok_or_else(|| {
            let known: Vec<String> = self.history.records().iter().rev().map(|r| r.generation.to_string()).collect();
            let known = listed(&known.iter().map(String::as_str).collect::<Vec<_>>());
            Refusal::NotFound(format!("there is no generation {number} in the history; there are: {known}"))
        })
    }
}
