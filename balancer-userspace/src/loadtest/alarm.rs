//! Waking up within microseconds: the runtime's own timers count milliseconds, in which several connections may be due.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(super) struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns its descriptor, always answers with this one, and closes it only with itself.
        Ok(Self(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    /// Waits for this long; may be dropped and called again at any time.
    pub(super) async fn after(&self, wait: Duration) -> io::Result<()> {
        // Zero would turn the timer off.
        let wait = TimeSpec::from_duration(wait.max(Duration::from_nanos(1)));
        self.0.get_ref().0.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            // Readiness may be that of an earlier wait: only a timer that has run out can be read.
            let read = ready.try_io(|timer| Ok(nix::unistd::read(timer.get_ref().0.as_fd(), &mut expirations)?));
            if let Ok(outcome) = read {
                return outcome.map(drop);
            }
        }
    }
}
