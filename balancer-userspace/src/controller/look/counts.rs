//! What the kernel counted, read once for all who ask at a moment.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::controller::counts::{Counts, Layout};
use crate::controller::state::State;

/// Backends whose counters are read in a second; with more of them they are read less often.
const BACKENDS_A_SECOND: u32 = 16_000;

impl State {
    /// Counts, where it is time to count again.
    pub(crate) fn due_counts(&mut self, now: Instant) -> Result<Option<Counts>> {
        if self.watch.layout.next.is_some_and(|next| now < next) {
            return Ok(None);
        }
        let backends = self.kernel.pools.backends.in_use() as u32;
        // Less half a tick, so that it is not the next but one that is taken.
        let wait = Duration::from_millis(500) + Duration::from_secs(1) * (backends / BACKENDS_A_SECOND);
        self.watch.layout.next = Some(now + wait);
        if self.watch.layout.key != self.layout_key() {
            self.watch.layout = Layout { next: self.watch.layout.next, ..self.layout() };
        }
        self.counts().map(Some)
    }

    /// What stands for all that a layout is worked out from.
    fn layout_key(&self) -> (u64, u64) {
        (self.kernel.generation, self.desired.config.services.revision())
    }

    fn layout(&self) -> Layout {
        Layout::of(&self.desired.config.services, &self.kernel.allocations, self.layout_key())
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let (known, fresh) = (&self.watch.layout, OnceCell::new());
        let layout = if known.key == self.layout_key() { known } else { fresh.get_or_init(|| self.layout()) };
        Ok(layout.counts(&self.kernel.raw_counts()?, &self.kernel.plane.drops()?))
    }
}
