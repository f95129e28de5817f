//! What is wanted is exchanged for something else, and can be exchanged back.

use crate::controller::desired::Desired;
use crate::controller::desired::whole::{Next, Whole};

impl Desired {
    /// A copy of what is in force.
    pub(crate) fn whole(&self) -> Whole {
        Whole {
            config: self.config.clone(),
            text: self.text.clone(),
            written: self.judged.written.clone(),
            found: self.judged.file().to_vec(),
            overrides: self.overrides.clone(),
        }
    }

    /// Puts `next` in the place of what is wanted, and answers what that was.
    pub(crate) fn swap(&mut self, next: Next) -> Next {
        match next {
            Next::Overrides(overrides) => Next::Overrides(std::mem::replace(&mut self.overrides, overrides)),
            Next::Config(next) => {
                let Whole { config, text, written, found, overrides } = *next;
                let (written, found) = self.judged.follow(written, found);
                Next::Config(Box::new(Whole {
                    config: std::mem::replace(&mut self.config, config),
                    text: std::mem::replace(&mut self.text, text),
                    written,
                    found,
                    overrides: std::mem::replace(&mut self.overrides, overrides),
                }))
            }
        }
    }
}
