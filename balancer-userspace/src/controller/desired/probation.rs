//! A guarded change: it comes in steps, is watched, and is taken back where it does harm or nobody confirms it in time. What
//! it goes back to is on disk before anything changes, so that a controller that starts meanwhile takes it back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::control::api::{ChangeKind, Guard, PlannedService, Reloaded};
use crate::controller::handle::Refusal;
use crate::controller::kernel::step::Change;
use crate::controller::kernel::trial::Trial;
use crate::controller::state::State;
use crate::controller::transaction::{ChangeRequest, Proposal};
use crate::controller::watch::counts::Counts;
use crate::health::Health;
use crate::history::Outcome;
use crate::model::{BackendId, Risk, Weight};
use crate::state::Fallback;

/// Of a service's slots, what one step moves.
const STEP: f64 = 0.1;
const MOST_STEPS: u32 = 10;
/// A change that nobody has confirmed yet.
pub(crate) struct Probation {
    fallback: Fallback,
    /// Of services that change: each backend's share before and after.
    shares: BTreeMap<BackendId, (f64, f64)>,
    /// Backends that were up.
    up: Vec<BackendId>,
    before: Counts,
    asked: ChangeRequest,
    step: u32,
    steps: u32,
    next: Instant,
    pause: Duration,
    deadline: Instant,
    /// That it is taken back is in the history.
    recorded: bool,
}

impl Probation {
    /// What a backend has for a weight at this step: the share that it had and the one that it is to have, mixed. Shares
    /// and not weights, so that every step moves as much as the others.
    fn ramped(&self, id: &BackendId, weight: Weight) -> Weight {
        let Some((before, after)) = self.shares.get(id).filter(|_| self.step < self.steps && !weight.is_zero()) else {
            return weight;
        };
        let now = before + (after - before) * f64::from(self.step) / f64::from(self.steps);
        // Who is to take flows takes some from the first step on.
        Weight::new((now * f64::from(Weight::MAX)).round().max(1.0) as u32).unwrap_or(weight)
    }

    fn said(&self) -> Guard {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (command, step, steps) = (self.asked.command.clone(), self.step, self.steps);
        Guard { command, step, steps, seconds_left: left.as_secs() }
    }
}

impl State {
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.desired.probation.as_ref().map(Probation::said)
    }

    /// What of a weight a guarded change lets be in force now.
    pub(crate) fn ramped(&self, id: &BackendId, weight: Weight) -> Weight {
        self.desired.probation.as_ref().map_or(weight, |guarded| guarded.ramped(id, weight))
    }

    /// Whoever wants another change must wait until this one is decided.
    pub(crate) fn refuse_while_guarded(&self) -> Result<(), Refusal> {
        let Some(guard) = self.guard() else { return Ok(()) };
        Err(Refusal::Invalid(format!(
            "a guarded change is under way ({}, {} s left): `balancer confirm` keeps it, `balancer rollback` takes it back",
            guard.command, guard.seconds_left
        )))
    }

    /// Puts what comes next on probation: what is in force now is what it goes back to.
    pub(crate) fn begin_guard(
        &mut self,
        asked: &ChangeRequest,
        changes: &[PlannedService],
        duration: Duration,
    ) -> Result<(), Refusal> {
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
            recorded: false,
            fallback: Fallback {
                text: self.desired.text.clone(),
                overrides: self.desired.overrides.clone(),
                command: asked.command.clone(),
            },
        };
        self.store.save_guard(Some(&guarded.fallback)).map_err(failed)?;
        self.desired.probation = Some(guarded);
        Ok(())
    }

    /// Nothing was changed after all.
    pub(crate) fn abandon_guard(&mut self) {
        if self.desired.probation.take().is_some() {
            self.end_guard();
        }
    }

    /// How long a change of this risk is on probation without being asked to.
    pub(crate) fn guard_by_policy(&self, risk: Risk) -> Option<Duration> {
        self.desired.config.node.guard.filter(|policy| risk >= policy.from).map(|policy| policy.duration)
    }

    fn end_guard(&mut self) {
        if let Err(error) = self.store.save_guard(None) {
            log::error!("the guard's note could not be removed; a restart would take the change back: {error:#}");
        }
    }

    /// Keeps the change: all of it, at once.
    pub(crate) fn confirm(&mut self, uid: u32) -> Result<Reloaded, Refusal> {
        let start = Instant::now();
        let Some(guarded) = self.desired.probation.take() else {
            return Err(Refusal::NotFound("no guarded change is under way".to_owned()));
        };
        let change = Change::asked(Trial::FILE, format!("{} confirmed by uid {uid}", guarded.asked.command));
        if let Err(error) = self.reconcile(self.all_services(), change) {
            self.desired.probation = Some(guarded);
            return Err(Refusal::Failed(format!("not confirmed: {error:#}")));
        }
        self.end_guard();
        let command = format!("{}, confirmed by uid {uid}", guarded.asked.command);
        self.record(ChangeRequest { command, ..guarded.asked });
        let seconds = start.elapsed().as_secs_f64();
        Ok(Reloaded { generation: self.kernel.generation, seconds, ..Reloaded::default() })
    }

    /// Brings back what was in force before the guarded change.
    pub(crate) fn take_back(&mut self, why: &str, uid: Option<u32>) -> Result<Reloaded, Refusal> {
        let Some(mut guarded) = self.desired.probation.take() else {
            return Err(Refusal::NotFound("no guarded change is under way".to_owned()));
        };
        let command = guarded.asked.command.clone();
        if !std::mem::replace(&mut guarded.recorded, true) {
            log::warn!("taking back {command}: {why}");
            if uid.is_none() {
                self.watch.watchtower.taken_back = Some((Instant::now(), format!("{command} was taken back: {why}")));
            }
            let tried =
                ChangeRequest { command: command.clone(), reason: Some(why.to_owned()), ..guarded.asked.clone() };
            self.record_as(tried, Outcome::RolledBack);
        }
        self.desired.overrides.clone_from(&guarded.fallback.overrides);
        let asked = ChangeRequest {
            uid,
            command: format!("taken back: {command}"),
            reason: Some(why.to_owned()),
            accept: Vec::new(),
        };
        let text = guarded.fallback.text.clone();
        let outcome = self.apply(&Proposal::unasked(text, "before the guarded change", asked));
        match &outcome {
            Ok(_) => self.end_guard(),
            Err(refusal) => {
                log::error!("the change could not be taken back, trying again: {refusal}");
                self.desired.probation = Some(guarded);
            }
        }
        outcome
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
        self.reconcile(self.all_services(), Change { trial: Some(Trial::COMMAND), because }).map(drop)
    }

    /// What the change did that it should not have.
    fn harm(&self, guarded: &Probation) -> Option<String> {
        let down = |id: &&BackendId| {
            let there = self.service(&id.service).is_some_and(|s| s.backends.iter().any(|b| b.name == id.backend));
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
