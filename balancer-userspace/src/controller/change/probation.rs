//! A guarded change: it comes in steps, is watched, and is taken back where it does harm or nobody confirms it in time. What
//! it goes back to is on disk before anything changes, so that a controller that starts meanwhile takes it back.

use std::time::{Duration, Instant};

use crate::control::api::{ChangeKind, Guard, PlannedService, Reloaded};
use crate::controller::desired::probation::Probation;
use crate::controller::desired::whole::Whole;
use crate::controller::kernel::trial::Trial;
use crate::controller::proposal::{ChangeRequest, Recorded};
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::unwritten::Part;
use crate::health::Health;
use crate::history::{Outcome, digest};
use crate::model::BackendId;
use crate::state::Fallback;

/// Of a service's slots, what one step moves.
const STEP: f64 = 0.1;
const MOST_STEPS: u32 = 10;

impl State {
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.desired.probation.as_ref().map(Probation::said)
    }

    /// Whoever wants another change must wait until this one is decided.
    pub(crate) fn refuse_while_guarded(&self) -> Result<(), Refusal> {
        let Some(guard) = self.guard() else { return Ok(()) };
        Err(Refusal::Invalid(format!(
            "a guarded change is under way ({}, {} s left): `balancer confirm` keeps it, `balancer rollback` takes it back",
            guard.command, guard.seconds_left
        )))
    }

    /// Prepares the probation of a change to `text`: what is in force now is what it goes back to, and that is on disk.
    pub(crate) fn begin_guard(
        &self,
        asked: &ChangeRequest,
        changes: &[PlannedService],
        duration: Duration,
        text: &str,
    ) -> Result<Probation, Refusal> {
        let failed = |error: anyhow::Error| Refusal::Failed(format!("nothing was changed: {error:#}"));
        // In so many steps that none moves much.
        let moved = changes.iter().map(|service| f64::from(service.slots_moved) / f64::from(service.slots.max(1)));
        let steps = ((moved.fold(0.0, f64::max) / STEP).ceil() as u32).clamp(1, MOST_STEPS);
        let changed = changes.iter().filter(|service| service.change == ChangeKind::Changed);
        let shares = changed.flat_map(|PlannedService { name, backends, .. }| {
            backends.iter().map(|backend| {
                let id = BackendId { service: name.clone(), backend: backend.name.clone() };
                (id, (backend.share_before.unwrap_or(0.0), backend.share_after.unwrap_or(0.0)))
            })
        });
        let up = self.observed.checked.iter().filter(|(_, checked)| checked.health == Health::Up);
        let (now, pause) = (Instant::now(), duration.div_f64(2.0 * f64::from(steps)));
        let guarded = Probation {
            shares: shares.collect(),
            up: up.map(|(id, _)| id.clone()).collect(),
            before: self.counts().map_err(failed)?,
            asked: asked.clone(),
            step: 1,
            steps,
            next: now + pause,
            pause,
            deadline: now + duration,
            before_it: self.desired.whole(),
            fallback: Fallback {
                known: vec![self.desired.seen.clone(), digest(text.as_bytes())],
                text: self.desired.text.clone(),
                overrides: self.desired.overrides.clone(),
                command: asked.command.clone(),
            },
        };
        self.store.save_guard(Some(&guarded.fallback)).map_err(failed)?;
        Ok(guarded)
    }

    /// Keeps the change: all of it, at once.
    pub(crate) fn confirm(&mut self, uid: u32) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let Some(guarded) = self.desired.probation.take() else {
            return Err(Refusal::NotFound("no guarded change is under way".to_owned()));
        };
        let before = self.all_shares();
        let change = Change::asked(Trial::FILE, format!("{} confirmed by uid {uid}", guarded.asked.command));
        // A restart must not take back what somebody was told is confirmed.
        let confirmed = self.keep(Part::Guard).and_then(|()| self.reconcile(self.desired.all_services(), change));
        if let Err(error) = confirmed {
            self.desired.probation = Some(guarded);
            self.keep(Part::Guard).ok();
            return Err(Refusal::Failed(format!("not confirmed, the change stays on probation: {error:#}")));
        }
        let command = format!("{}, confirmed by uid {uid}", guarded.asked.command);
        self.record(ChangeRequest { command, ..guarded.asked });
        Ok(Reloaded {
            generation: self.kernel.generation,
            shares: self.shares_since(&before),
            warnings: self.unwritten.said(),
            seconds: start.elapsed().as_secs_f64(),
            ..Reloaded::default()
        })
    }

    /// Brings back what was in force before the guarded change: the kernel first. What can't be written to disk then is
    /// tried again each second, and until it is there a restart takes the change back too.
    pub(crate) fn take_back(&mut self, why: &str, uid: Option<u32>) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let Some(guarded) = self.desired.probation.take() else {
            return Err(Refusal::NotFound("no guarded change is under way".to_owned()));
        };
        let command = guarded.asked.command.clone();
        let (shares, tried_generation) = (self.all_shares(), self.kernel.generation);
        let outcome = self.back(guarded.before_it.clone(), format!("{command} taken back: {why}"));
        let result = match &outcome {
            Ok(_) => format!("{command} was taken back: {why}"),
            Err(refusal) => {
                format!("{command} could not be taken back ({why}) and is in force, tried again each second: {refusal}")
            }
        };
        // Whoever asks for it hears it, and needs no alarm where it was done.
        if uid.is_none() || outcome.is_err() {
            self.watch.watchtower.taken_back = Some((Instant::now(), result.clone()));
        }
        log::warn!("{result}");
        let (tried, warnings) = match outcome {
            Ok(done) => done,
            Err(refusal) => {
                self.desired.probation = Some(guarded);
                let refusal = self.repaired(refusal);
                return self.desired.noted(Err(refusal));
            }
        };
        self.keep(Part::Guard).ok();
        let refused = ChangeRequest { reason: Some(why.to_owned()), ..guarded.asked };
        let Whole { config, text, overrides, .. } = tried;
        let generation = tried_generation;
        let recorded = Recorded { generation, text, overrides, outcome: Outcome::RolledBack, back_to: None };
        self.record_as(refused, recorded);
        let (command, reason) = (format!("taken back: {command}"), Some(why.to_owned()));
        self.record_if_new(ChangeRequest { uid, command, reason, accept: Vec::new() });
        let answer = self.brought_back((&config, &shares), warnings, start);
        self.desired.noted(Ok(answer))
    }

    /// Looks whether the change does harm, is due for its next step, or is over. Answers whether it was taken back.
    pub(crate) fn watch_guarded(&mut self) -> bool {
        let Some(guarded) = &self.desired.probation else { return false };
        let now = Instant::now();
        let why = match self.harm(guarded) {
            Some(harm) => harm,
            None if now >= guarded.deadline => "nobody confirmed it in time".to_owned(),
            None if now >= guarded.next && guarded.step < guarded.steps => match self.next_step(now) {
                Ok(()) => return false,
                Err(error) => format!("the next step could not be made: {error:#}"),
            },
            None => return false,
        };
        self.take_back(&why, None).is_ok()
    }

    fn next_step(&mut self, now: Instant) -> anyhow::Result<()> {
        if let Some(guarded) = &mut self.desired.probation {
            guarded.step += 1;
            guarded.next = now + guarded.pause;
            log::info!("{}: step {} of {}", guarded.asked.command, guarded.step, guarded.steps);
        }
        let because = self
            .desired
            .probation
            .iter()
            .map(|guarded| format!("{}, step {}", guarded.asked.said(), guarded.step))
            .collect();
        self.reconcile(self.desired.all_services(), Change { trial: Some(Trial::COMMAND), because }).map(drop)
    }

    /// What the change did that it should not have.
    fn harm(&self, guarded: &Probation) -> Option<String> {
        let down = |id: &&BackendId| {
            let there =
                self.desired.service(&id.service).is_some_and(|s| s.backends.iter().any(|b| b.name == id.backend));
            there && self.observed.checked.get(*id).is_some_and(|checked| checked.health == Health::Down)
        };
        if let Some(id) = guarded.up.iter().find(down) {
            return Some(format!("{id} went down"));
        }
        let now = match self.counts() {
            Ok(now) => now,
            Err(error) => return Some(format!("nothing can be counted: {error:#}")),
        };
        let repeated = || now.repeating(&guarded.before).into_iter().next();
        now.dropping(&guarded.before).or_else(|| repeated().map(|(name, summary)| format!("{name}: {summary}")))
    }
}
