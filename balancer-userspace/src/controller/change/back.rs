//! The way back needs no permission: the kernel comes first, then the files, tried again until they are written.

use std::time::Instant;

use anyhow::Result;

use crate::control::api::Reloaded;
use crate::controller::change::shares::SharesBefore;
use crate::controller::desired::admit::differences;
use crate::controller::desired::config_file::FileIs;
use crate::controller::desired::whole::{Next, Whole};
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::unwritten::Part;
use crate::model::Config;

impl State {
    /// Brings back what was in force once. The kernel comes first; what can't be written to disk then is tried again each
    /// second. Answers what was in force, and what of this did not get to the disk.
    ///
    /// # Errors
    /// Where the kernel could not be written; what was in force is wanted still, and is to be repaired.
    pub(crate) fn back(&mut self, next: Whole, because: String) -> Result<(Whole, Vec<String>), Refusal> {
        let newer = self.desired.file_is(&next.text).is_ok_and(|is| is == FileIs::Newer)
            && !self.desired.file_holds(&self.desired.text);
        let checked = self.observed.checked.clone();
        let before = self.desired.swap(Next::Config(Box::new(next)));
        if let Err(error) = self.kernel.attach_interfaces(&self.desired.config.interfaces) {
            log::error!("going back without an interface: {error}");
        }
        self.desired.end_overrides();
        self.forget_strangers();
        self.carry_ways();
        let change = Change { trial: None, because: vec![because] };
        let outcome = self.reconcile(self.desired.all_services(), change);
        if let Err(error) = outcome {
            self.desired.swap(before);
            self.observed.checked = checked;
            self.kernel.detach_unwanted(&self.desired.config.interfaces);
            return Err(Refusal::Failed(format!("the kernel could not be written: {error:#}")));
        }
        self.kernel.detach_unwanted(&self.desired.config.interfaces);
        self.judge_all();
        let mut warnings = Vec::new();
        if newer {
            let path = self.desired.path.display();
            warnings.push(format!(
                "{path} was changed since the controller last read it and was left as it is: the next reload or restart \
                 brings it into force"
            ));
            log::warn!("{}", warnings[0]);
        } else {
            self.keep(Part::File).ok();
        }
        self.keep(Part::Overrides).ok();
        match before {
            Next::Config(before) => Ok((*before, warnings)),
            // A whole config is exchanged for a whole one.
            Next::Overrides(_) => Err(Refusal::Failed("only commands were exchanged".to_owned())),
        }
    }

    /// The answer to whoever wanted that: what differs from the config that was in force, and the shares then and now.
    pub(crate) fn brought_back(
        &self,
        was: (&Config, &SharesBefore),
        mut warnings: Vec<String>,
        start: Instant,
    ) -> Reloaded {
        let (added, removed, changed) = differences(was.0, &self.desired.config);
        warnings.extend(self.unwritten.said());
        Reloaded {
            generation: self.kernel.generation,
            added,
            removed,
            changed,
            shares: self.shares_since(was.1),
            warnings,
            seconds: start.elapsed().as_secs_f64(),
            ..Reloaded::default()
        }
    }
}
