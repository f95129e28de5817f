//! What systemd is told (`Type=notify`): that the controller is ready, what is in force, and that its loop still runs.
//! Without `NOTIFY_SOCKET` nothing is sent.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The text of `STATUS=` is made anew at least so often; a change of the generation makes it at once.
const EVERY: Duration = Duration::from_secs(10);

/// What is in force, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    pub services: usize,
    pub backends: usize,
    pub up: usize,
    pub generation: u64,
    /// The last reload was refused: the config in force is older than the file.
    pub refused: bool,
}

impl InForce {
    /// One line for `systemctl status`.
    pub fn text(&self) -> String {
        let Self { services, backends, up, generation, refused } = self;
        let plural = if *services == 1 { "" } else { "s" };
        let refused = if *refused { "; the last reload was refused, the previous config stays active" } else { "" };
        format!("{services} service{plural}, {up} of {backends} backends up, generation {generation}{refused}")
    }
}

/// Whoever started the process and wants to hear of it.
#[derive(Debug)]
pub struct ServiceManager {
    listens: bool,
    said: Option<(u64, bool, Instant)>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        Self { listens: std::env::var_os("NOTIFY_SOCKET").is_some(), said: None }
    }

    pub fn ready(&mut self, in_force: &InForce) {
        self.say(in_force, Instant::now(), &[NotifyState::Ready]);
    }

    /// [`Self::ready`] follows, however the reload ends.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(&[NotifyState::Reloading, now]);
        }
    }

    pub fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(status)]);
    }

    /// Once a tick: the loop runs, and what is in force where that may be news.
    pub fn tick(&mut self, generation: u64, refused: bool, in_force: impl FnOnce() -> InForce) {
        progress();
        let now = Instant::now();
        let known = |(said, no, at): (u64, bool, Instant)| (said, no) == (generation, refused) && now < at + EVERY;
        if self.listens && !self.said.is_some_and(known) {
            self.say(&in_force(), now, &[]);
        }
    }

    fn say(&mut self, in_force: &InForce, now: Instant, with: &[NotifyState<'_>]) {
        if self.listens {
            self.said = Some((in_force.generation, in_force.refused, now));
            let text = in_force.text();
            self.send(&[with, &[NotifyState::Status(&text)]].concat());
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(states)
        {
            log::error!("the service manager can't be told: {error}");
        }
    }
}

/// Tells the watchdog that the controller gets on: called by its tick, and by long work for each part that is done.
pub fn progress() {
    static PERIOD: OnceLock<Option<(Instant, Duration)>> = OnceLock::new();
    static TOLD_MS: AtomicU64 = AtomicU64::new(0);
    let watched = PERIOD.get_or_init(|| Some((Instant::now(), sd_notify::watchdog_enabled()?)));
    let Some((start, period)) = watched else { return };
    let now = start.elapsed().as_millis() as u64;
    let told = TOLD_MS.load(Ordering::Relaxed);
    let due = told == 0 || now - told.min(now) >= (period.as_millis() / 4) as u64;
    // Of several threads that get on, one tells.
    if due && TOLD_MS.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_what_is_in_force_on_one_line() {
        let in_force = InForce { services: 3, backends: 12, up: 11, generation: 7, refused: false };
        assert_eq!(in_force.text(), "3 services, 11 of 12 backends up, generation 7");
        let refused = InForce { services: 1, refused: true, ..in_force };
        assert_eq!(
            refused.text(),
            "1 service, 11 of 12 backends up, generation 7; the last reload was refused, the previous config stays active"
        );
    }
}
