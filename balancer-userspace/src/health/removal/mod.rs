//! Who leaves the table of a service, and who is kept although its check fails. Pure: evidence and time come in.
//!
//! ```text
//!              fails, few others do             answers (and does not flap)
//!   serving ──────────────────────────► removed ──────────────────────────► serving
//!      │  fails, too many do               │ too many of one window after all
//!      └──────────────────► kept ◄─────────┘
//!                            │ answers ──────────────────────────────────► serving
//!                            │ still fails after the confirm time ───────► removed for good
//! ```
//! - A backend that fails leaves at once, where another is up and can carry what it leaves.
//! - Too many: two backends or more, with more than half of the weight that the table had, within one window (`fall`
//!   intervals and a timeout). A common cause is likelier then than so many deaths: all of that window are kept, those that
//!   left first included, so that the table is as it was. One backend alone leaves whatever its weight.
//! - Nobody leaves where nobody would be left, or where one of those left would get more new flows than its capacity.
//! - Who is kept is removed after the confirm time (three windows) in which it failed and another answered all the time. As
//!   long as nobody answers that time does not begin: the first to come back does not get everything.
//! - No evidence changes nothing.

mod flaps;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::flaps::Flaps;
use crate::model::{BackendName, HealthCheck};

/// Windows for which who is kept must fail, while another answers, to be removed.
const CONFIRM: u32 = 3;

/// A backend at another address is another one.
pub type Member = (BackendName, IpAddr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answers and can be reached.
    Well,
    /// It did so when it could be asked last.
    Assumed,
    Failing,
    /// Nothing is known of it now.
    NoEvidence,
    /// The operator wants no new flows for it.
    Out,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub member: Member,
    pub verdict: Verdict,
    pub weight: u64,
    /// New flows a second that it can take.
    pub capacity: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    Serving,
    Kept { since: Instant },
    Removed { at: Instant, for_good: bool },
}

/// What a backend gets beyond its own evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its own evidence decides.
    Own,
    /// It keeps its weight although its check fails or nothing is known, and why.
    Kept(String),
    /// It answers and has to wait nevertheless, and why.
    Waits(String),
}

/// Who has a seat in a service's table.
#[derive(Debug, Clone, Default)]
pub struct Removals {
    seats: BTreeMap<Member, Seat>,
    flaps: BTreeMap<Member, Flaps>,
    fates: BTreeMap<Member, Fate>,
    /// Since when another has answered without a break while somebody is kept.
    answered: Option<Instant>,
    /// Why backends are kept, with counts.
    refused: Option<String>,
    window: Duration,
}

/// Times of a service's check.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    window: Duration,
}

impl Times {
    pub fn of(check: &HealthCheck) -> Self {
        Self { window: check.interval * check.fall + check.timeout }
    }
}

impl Removals {
    /// Takes in what is known of every backend now. `flows` are the service's new flows a second. True where a backend got
    /// another fate.
    pub fn judge(&mut self, all: &[Evidence], flows: Option<f64>, times: Times, now: Instant) -> bool {
        let before = self.fates.clone();
        self.window = times.window;
        self.forget(all);
        self.admit(all, times, now);
        self.remove(all, flows, times, now);
        self.fates = all.iter().map(|one| (one.member.clone(), self.decide(one, now))).collect();
        self.fates != before
    }

    pub fn fate(&self, member: &Member) -> &Fate {
        self.fates.get(member).unwrap_or(&Fate::Own)
    }

    /// Whether the backend of this name is kept although its check fails.
    pub fn keeps(&self, name: &BackendName) -> bool {
        self.seats.iter().any(|((there, _), seat)| there == name && matches!(seat, Seat::Kept { .. }))
    }

    /// Why backends are kept in the table, where some are.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Whether time alone may change what was decided.
    pub fn is_waiting(&self) -> bool {
        self.refused.is_some() || self.fates.values().any(|fate| matches!(fate, Fate::Waits(_)))
    }

    pub fn flapping(&self, now: Instant) -> impl Iterator<Item = (&BackendName, String)> {
        self.flaps.iter().filter_map(move |((name, _), flaps)| Some((name, flaps.said(self.window, now)?)))
    }

    /// Whether it has been out of the table for this long.
    pub fn is_gone_for(&self, member: &Member, time: Duration, now: Instant) -> bool {
        match self.seats.get(member) {
            Some(Seat::Removed { at, .. }) => now.duration_since(*at) >= time,
            Some(Seat::Serving | Seat::Kept { .. }) => false,
            None => true,
        }
    }

    fn forget(&mut self, all: &[Evidence]) {
        let here: BTreeMap<&Member, Verdict> = all.iter().map(|one| (&one.member, one.verdict)).collect();
        self.seats.retain(|member, _| here.get(member).is_some_and(|verdict| *verdict != Verdict::Out));
        self.flaps.retain(|member, _| here.contains_key(member));
    }

    /// Who answers gets its seat, unless it flaps and another serves.
    fn admit(&mut self, all: &[Evidence], times: Times, now: Instant) {
        let serves =
            |one: &Evidence| one.verdict == Verdict::Well && self.seats.get(&one.member) == Some(&Seat::Serving);
        let others = all.iter().any(serves);
        for one in all.iter().filter(|one| matches!(one.verdict, Verdict::Well | Verdict::Assumed)) {
            match self.seats.get(&one.member) {
                Some(Seat::Serving) => continue,
                Some(Seat::Removed { .. }) => {
                    let flaps = self.flaps.entry(one.member.clone()).or_default();
                    if !flaps.may_return(times.window, now) && others {
                        continue;
                    }
                }
                Some(Seat::Kept { .. }) | None => {}
            }
            self.seats.insert(one.member.clone(), Seat::Serving);
        }
        for one in all.iter().filter(|one| one.verdict == Verdict::Failing) {
            if let Some(flaps) = self.flaps.get_mut(&one.member) {
                flaps.fails();
            }
        }
    }

    fn remove(&mut self, all: &[Evidence], flows: Option<f64>, times: Times, now: Instant) {
        let seat = |one: &&Evidence| self.seats.get(&one.member).copied();
        let failing = || all.iter().filter(|one| one.verdict == Verdict::Failing);
        let fresh: Vec<&Evidence> = failing().filter(|one| seat(one) == Some(Seat::Serving)).collect();
        let kept: Vec<&Evidence> = failing().filter(|one| matches!(seat(one), Some(Seat::Kept { .. }))).collect();
        let recent = |one: &&Evidence| match seat(one) {
            Some(Seat::Removed { at, for_good: false }) => now.duration_since(at) < times.window,
            _ => false,
        };
        let recent: Vec<&Evidence> = failing().filter(recent).collect();
        let left: Vec<&Evidence> =
            all.iter().filter(|one| seat(one) == Some(Seat::Serving) && one.verdict != Verdict::Failing).collect();
        let leaving: Vec<&Evidence> = [&fresh[..], &kept[..], &recent[..]].concat();
        let why = against(&leaving, &left, flows, times);
        for one in &fresh {
            self.flaps.entry(one.member.clone()).or_default().goes_down(now);
            let seat =
                if why.is_some() { Seat::Kept { since: now } } else { Seat::Removed { at: now, for_good: false } };
            self.seats.insert(one.member.clone(), seat);
        }
        if why.is_some() && !(fresh.is_empty() && kept.is_empty()) {
            for one in &recent {
                self.seats.insert(one.member.clone(), Seat::Kept { since: now });
            }
        }
        self.confirm(&kept, &left, flows, times, now);
        let still = self.seats.values().any(|seat| matches!(seat, Seat::Kept { .. }));
        self.refused = still.then(|| why.unwrap_or_else(|| waiting(kept.len(), all.len(), times)));
        if !still {
            self.answered = None;
        }
    }

    /// Removes who was kept and has failed for long enough while another answered.
    fn confirm(&mut self, kept: &[&Evidence], left: &[&Evidence], flows: Option<f64>, times: Times, now: Instant) {
        if !left.iter().any(|one| one.verdict == Verdict::Well) {
            self.answered = None;
            return;
        }
        let answered = *self.answered.get_or_insert(now);
        let confirm = times.window * CONFIRM;
        if now.duration_since(answered) < confirm || overloaded(left, flows).is_some() {
            return;
        }
        for one in kept {
            let since = match self.seats.get(&one.member) {
                Some(Seat::Kept { since }) => *since,
                _ => continue,
            };
            if now.duration_since(since) >= confirm {
                self.seats.insert(one.member.clone(), Seat::Removed { at: now, for_good: true });
            }
        }
    }

    fn decide(&self, one: &Evidence, now: Instant) -> Fate {
        match (self.seats.get(&one.member), one.verdict) {
            (Some(Seat::Kept { .. }), _) => Fate::Kept(self.refused.clone().unwrap_or_default()),
            (Some(Seat::Serving), Verdict::NoEvidence) => Fate::Kept("nothing is known of it now".to_owned()),
            (Some(Seat::Removed { .. }), Verdict::Well | Verdict::Assumed) => {
                let said = self.flaps.get(&one.member).and_then(|flaps| flaps.said(self.window, now));
                Fate::Waits(said.unwrap_or_else(|| "it flaps".to_owned()))
            }
            _ => Fate::Own,
        }
    }
}

fn weight(of: &[&Evidence]) -> u64 {
    of.iter().map(|one| one.weight).sum()
}

/// What speaks against taking `leaving` out, so that `left` are left.
fn against(leaving: &[&Evidence], left: &[&Evidence], flows: Option<f64>, times: Times) -> Option<String> {
    if leaving.is_empty() {
        return None;
    }
    let (gone, stay) = (weight(leaving), weight(left));
    let (count, all) = (leaving.len(), leaving.len() + left.len());
    if left.is_empty() {
        return Some(format!("{count} of {all} backends in the table fail their checks, and none would be left"));
    }
    if count > 1 && gone > stay {
        let part = gone as f64 * 100.0 / (gone + stay) as f64;
        let window = humantime::format_duration(times.window);
        return Some(format!(
            "{count} of {all} backends in the table, {part:.0} % of the weight, fail their checks within {window}"
        ));
    }
    let overloaded = overloaded(left, flows)?;
    Some(format!("{count} of {all} backends in the table fail their checks, but {overloaded}"))
}

/// Who of those left would get more than it can take.
fn overloaded(left: &[&Evidence], flows: Option<f64>) -> Option<String> {
    let (flows, whole) = (flows?, weight(left).max(1) as f64);
    left.iter().find_map(|one| {
        let (capacity, part) = (one.capacity?, flows * one.weight as f64 / whole);
        let name = &one.member.0;
        (part > capacity as f64)
            .then(|| format!("{name} would get {part:.0} new flows a second and can take {capacity}"))
    })
}

fn waiting(kept: usize, all: usize, times: Times) -> String {
    let confirm = humantime::format_duration(times.window * CONFIRM);
    format!("{kept} of {all} backends fail their checks; who does so for {confirm} while others answer is removed")
}

#[cfg(test)]
mod tests;
