//! Signals of this process. They are handled from the first moment on: one that comes during the start is kept for after it.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Signals {
    /// Read the config again. Several that nobody has taken yet are one.
    pub(super) hangup: Signal,
    pub(super) stop: Stop,
}

/// SIGTERM and SIGINT.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn handle() -> Result<Self> {
        let on = |kind| signal(kind).context("installing a signal handler");
        Ok(Self {
            hangup: on(SignalKind::hangup())?,
            stop: Stop { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? },
        })
    }
}

impl Stop {
    /// Ends once the controller is to stop; nothing is lost where this is dropped before.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
