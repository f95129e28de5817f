//! The one way in which something else comes to be in force. Forward needs permission: all that could fail is tried before
//! the kernel is touched, and an error leaves what was in force. Back needs none: the kernel first, then the files, tried
//! again until they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail};

use crate::control::api::{ServiceShares, ShareChange};
use crate::controller::desired::Desired;
use crate::controller::desired::probation::Probation;
use crate::controller::handle::Refusal;
use crate::controller::kernel::step::Change;
use crate::controller::state::State;
use crate::controller::unwritten::Part;
use crate::history::digest;
use crate::model::{BackendId, BackendName, Config, ServiceName};
use crate::spec::{Diagnostic, Written};
use crate::state::{Overrides, StagedFile, replace_file, stage_file};

/// What is to be in force.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    Config(Box<Whole>),
    /// Of the same config.
    Overrides(Overrides),
}

/// Which services a change concerns.
#[derive(Debug, Clone)]
pub(crate) enum Dirty {
    All,
    /// These, and those whose tables were planned with other weights than are in force then.
    Differing(BTreeSet<ServiceName>),
    Only(BTreeSet<ServiceName>),
}

/// A config, and what commands set over it.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pub(crate) config: Config,
    pub(crate) text: String,
    pub(crate) written: Written,
    /// What lint finds in the text alone.
    pub(crate) found: Vec<Diagnostic>,
    pub(crate) overrides: Overrides,
}

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
    fn swap(&mut self, next: Next) -> Next {
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

/// What the config file holds, compared with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileIs {
    /// This text.
    Same,
    /// What was last read or written here, or nothing.
    Known,
    /// Something that was never read.
    Newer,
}

/// What of a file's content is known. Size, time and inode say too little: only the content counts.
fn file_is(there: Option<&str>, wanted: &str, seen: &str) -> FileIs {
    match there {
        Some(there) if there == wanted => FileIs::Same,
        Some(there) if digest(there.as_bytes()) != seen => FileIs::Newer,
        _ => FileIs::Known,
    }
}

impl Desired {
    fn file_text(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.path.display())),
        }
    }

    fn file_is(&self, wanted: &str) -> Result<FileIs> {
        Ok(file_is(self.file_text()?.as_deref(), wanted, &self.seen))
    }

    fn file_holds(&self, text: &str) -> bool {
        self.file_text().is_ok_and(|there| there.as_deref() == Some(text))
    }

    /// Whoever applies something has not seen what the file holds by now.
    pub(crate) fn refuse_newer_file(&self, wanted: &str) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}; nothing was applied"));
        if self.file_is(wanted).map_err(failed)? != FileIs::Newer || self.file_holds(&self.text) {
            return Ok(());
        }
        let path = self.path.display();
        Err(Refusal::Invalid(format!(
            "{path} was changed since the controller last read it, and applying this would overwrite that; nothing was \
             applied. Look at `balancer plan {path}`, then `balancer reload`, or put back what the file held"
        )))
    }

    /// The config file as it is to be, all but in its place; none where it is so already.
    fn stage_config(&self) -> Result<Option<StagedFile>, Refusal> {
        if self.file_holds(&self.text) {
            return Ok(None);
        }
        let staged = stage_file(&self.path, &self.text);
        staged.map(Some).map_err(|error| Refusal::Failed(format!("{error:#}")))
    }

    fn put_config(&mut self, staged: StagedFile) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        if self.file_is(&self.text).map_err(failed)? == FileIs::Newer {
            let path = self.path.display();
            return Err(Refusal::Invalid(format!("{path} was changed while this was applied; it was left as it is")));
        }
        staged.put().map_err(failed)?;
        self.seen = digest(self.text.as_bytes());
        Ok(())
    }

    /// The config file holds what is in force, so that a restart finds it; one that is newer is left alone.
    pub(crate) fn write_file(&mut self) -> Result<()> {
        match self.file_is(&self.text)? {
            FileIs::Same => {}
            FileIs::Newer => return Ok(()),
            FileIs::Known => replace_file(&self.path, &self.text)?,
        }
        self.seen = digest(self.text.as_bytes());
        Ok(())
    }
}

impl State {
    /// Brings `next` into force, whole; on probation where `guard` is given. Where `writes`, the config file becomes its text.
    /// Answers the overrides that the file ended.
    ///
    /// # Errors
    /// Where anything failed; what was in force before still is.
    pub(crate) fn forward(
        &mut self,
        next: Next,
        dirty: Dirty,
        change: Change,
        writes: bool,
        guard: Option<Probation>,
    ) -> Result<Vec<BackendId>, Refusal> {
        let checked = matches!(next, Next::Config(_)).then(|| self.observed.checked.clone());
        let before = self.desired.swap(next);
        let guarded = guard.is_some();
        if guarded {
            self.desired.probation = guard;
        }
        let mut outcome = self.try_forward(dirty, change, writes);
        if let Err(refusal) = outcome {
            self.desired.swap(before);
            if guarded {
                self.desired.probation = None;
            }
            if let Some(checked) = checked {
                self.observed.checked = checked;
            }
            self.detach_unwanted();
            // Where it can't be written it is tried again, as is said.
            self.keep(Part::Overrides).ok();
            outcome = Err(self.repaired(refusal));
            if guarded {
                self.keep(Part::Guard).ok();
            }
        } else {
            self.detach_unwanted();
        }
        outcome
    }

    fn try_forward(&mut self, dirty: Dirty, change: Change, writes: bool) -> Result<Vec<BackendId>, Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
        let (mut ended, mut staged) = (Vec::new(), None);
        if !matches!(dirty, Dirty::Only(_)) {
            self.attach_interfaces().map_err(Refusal::Invalid)?;
            ended = self.desired.end_overrides();
            self.forget_strangers();
            self.carry_ways();
            staged = if writes { self.desired.stage_config()? } else { None };
            // What a rollback needs, and what a restart needs.
            self.store.save_content(&digest(self.desired.text.as_bytes()), &self.desired.text).map_err(failed)?;
        }
        let dirty = match dirty {
            Dirty::All => self.desired.all_services(),
            Dirty::Differing(services) => self.out_of_weight(services),
            Dirty::Only(services) => services,
        };
        self.keep(Part::Overrides).map_err(failed)?;
        self.reconcile(dirty, change).map_err(failed)?;
        if let Some(staged) = staged {
            self.desired.put_config(staged)?;
        }
        Ok(ended)
    }

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
        if let Err(error) = self.attach_interfaces() {
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
            self.detach_unwanted();
            return Err(Refusal::Failed(format!("the kernel could not be written: {error:#}")));
        }
        self.detach_unwanted();
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

    /// Brings the kernel to what was in force before a change that failed, and says so where that fails too.
    pub(crate) fn repaired(&mut self, refusal: Refusal) -> Refusal {
        match self.repair() {
            Ok(()) => refusal,
            Err(error) => {
                refusal.but(&format!("the kernel could not be brought back yet, trying again each second: {error:#}"))
            }
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

    /// The shares of all backends in the tables that are in the kernel.
    pub(crate) fn all_shares(&self) -> SharesBefore {
        self.kernel.programmed.keys().map(|name| (name.clone(), self.shares(name))).collect()
    }

    /// What became of them, of services where any is another.
    pub(crate) fn shares_since(&self, before: &SharesBefore) -> Vec<ServiceShares> {
        let of = |name: &ServiceName| {
            let empty = BTreeMap::new();
            let (before, after) = (before.get(name).unwrap_or(&empty), self.shares(name));
            let backends: Vec<ShareChange> = self.share_changes(name, before, &after);
            let differ = backends.iter().any(|backend| backend.before != backend.after);
            differ.then(|| ServiceShares { service: name.clone(), backends })
        };
        self.desired.config.services.iter().filter_map(|service| of(&service.name)).collect()
    }
}

pub(crate) type SharesBefore = BTreeMap<ServiceName, BTreeMap<BackendName, Option<f64>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_newer_where_its_content_was_never_read() {
        let seen = digest(b"read");
        assert_eq!(file_is(Some("new"), "new", &seen), FileIs::Same, "somebody put there what is applied");
        assert_eq!(file_is(Some("read"), "new", &seen), FileIs::Known);
        assert_eq!(file_is(None, "new", &seen), FileIs::Known, "a file that is gone is written again");
        assert_eq!(file_is(Some("edited"), "new", &seen), FileIs::Newer);
    }
}
