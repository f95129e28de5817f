//! The profile of the traffic is kept while the controller runs.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tokio::sync::Semaphore;

use super::running::Running;
use crate::model::{Node, ServiceName};
use crate::plan::mapping;
use crate::profile::{Day, Now, Recorder, Store};

pub(super) struct Profile {
    recorder: Recorder,
    pub(super) store: Store,
    /// The first day that is kept, as it was when older ones were last removed.
    first: Option<Day>,
    /// One rehearsal at a time: each has all processors.
    pub(super) rehearsals: Arc<Semaphore>,
}

impl Profile {
    pub(super) fn new(node: &Node) -> Self {
        Self {
            recorder: Recorder::default(),
            store: Store::new(&node.state_dir),
            first: None,
            rehearsals: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Running {
    /// Takes in who has which index now: what was counted so far is of those who had them before.
    pub(super) fn note_owners(&mut self) {
        if self.config.node.profile.days > 0
            && let Err(error) = self.take_in_groups()
        {
            log::error!("new flows of the traffic profile are missed: {error:#}");
        }
    }

    fn take_in_groups(&mut self) -> Result<()> {
        let recorder = &mut self.profile.recorder;
        let highest = super::allocate::index(self.pools.backends.highest()).max(recorder.highest());
        recorder.count(self.plane.groups(highest)?);
        let leaving = self.allocations.leaving.iter().map(|left| (&left.id, &left.allocated));
        let all = self.allocations.backends.iter().chain(leaving);
        recorder.own(all.map(|(id, allocated)| (allocated.index, id.service.clone())));
        Ok(())
    }

    /// Writes a record when its interval is over.
    pub(super) fn keep_profile(&mut self) {
        let policy = self.config.node.profile;
        if policy.days == 0 {
            self.profile.recorder = Recorder::default();
            return;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Now { since_epoch, at: Instant::now() };
        if !self.profile.recorder.is_due(now, policy.interval) {
            return;
        }
        if let Err(error) = self.turn(now) {
            log::error!("the traffic profile: {error:#}");
        }
    }

    fn turn(&mut self, now: Now) -> Result<()> {
        self.take_in_groups()?;
        let policy = self.config.node.profile;
        let node = &self.config.node;
        let number = |service: &crate::model::Service| -> (ServiceName, u32) {
            (service.name.clone(), mapping(service, node.seed))
        };
        let mappings = self.config.services.iter().map(number).collect();
        if let Some(record) = self.profile.recorder.turn(now, policy.interval, mappings) {
            self.profile.store.append(&record)?;
        }
        let first = Day::of(now.since_epoch.as_secs()).before(u64::from(policy.days) - 1);
        if self.profile.first != Some(first) {
            self.profile.store.forget_before(first)?;
            self.profile.first = Some(first);
        }
        Ok(())
    }
}
