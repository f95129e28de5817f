//! The profile of the traffic is kept while the controller runs.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::controller::state::State;
use crate::model::ServiceName;
use crate::plan::mapping;
use crate::profile::{Day, Now, Recorder};

impl State {
    /// Takes in who has which index now: what was counted so far is of those who had them before.
    pub(crate) fn note_owners(&mut self) {
        if self.desired.config.node.profile.days > 0
            && let Err(error) = self.take_in_groups()
        {
            log::error!("new flows of the traffic profile are missed: {error:#}");
        }
    }

    fn take_in_groups(&mut self) -> Result<()> {
        let recorder = &mut self.watch.profile.recorder;
        let highest =
            crate::controller::kernel::allocate::index(self.kernel.pools.backends.highest()).max(recorder.highest());
        recorder.count(self.kernel.plane.groups(highest)?);
        let leaving = self.kernel.allocations.leaving.iter().map(|left| (&left.id, &left.allocated));
        let all = self.kernel.allocations.backends.iter().chain(leaving);
        recorder.own(all.map(|(id, allocated)| (allocated.index, id.service.clone())));
        Ok(())
    }

    /// Writes a record when its interval is over.
    pub(crate) fn keep_profile(&mut self) {
        let policy = self.desired.config.node.profile;
        if policy.days == 0 {
            self.watch.profile.recorder = Recorder::default();
            return;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Now { since_epoch, at: Instant::now() };
        if !self.watch.profile.recorder.is_due(now, policy.interval) {
            return;
        }
        if let Err(error) = self.turn(now) {
            log::error!("the traffic profile: {error:#}");
        }
    }

    fn turn(&mut self, now: Now) -> Result<()> {
        self.take_in_groups()?;
        let policy = self.desired.config.node.profile;
        let node = &self.desired.config.node;
        let number = |service: &crate::model::Service| -> (ServiceName, u32) {
            (service.name.clone(), mapping(service, node.seed))
        };
        let mappings = self.desired.config.services.iter().map(number).collect();
        if let Some(record) = self.watch.profile.recorder.turn(now, policy.interval, mappings) {
            self.watch.profile.store.append(&record)?;
        }
        let kept = (Day::of(now.since_epoch.as_secs()), policy.days);
        if self.watch.profile.kept != Some(kept) {
            self.watch.profile.store.keep_days(policy.days, kept.0)?;
            self.watch.profile.kept = Some(kept);
        }
        Ok(())
    }
}
