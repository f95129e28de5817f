//! What health checks and routers say of a backend.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::controller::observed::Observed;
use crate::health::{Health, Report};
use crate::model::{Backend, BackendId, CheckKind, Service, ServiceName};
use crate::neighbor::{Reachability, Wanted};

impl Observed {
    /// Names in `dirty` the service whose tables the report changes.
    pub(crate) fn note_report(&mut self, report: Report, dirty: &mut BTreeSet<ServiceName>) {
        let Report { id, address, health, changed, took, failures, error, blind } = report;
        // The last word about a backend that went, or from where it was before.
        if self.checked.get(&id).is_none_or(|checked| checked.at != Some(address)) {
            return;
        }
        if changed {
            match (&health, &error) {
                (Health::Up, _) => log::info!("{id} is up"),
                (_, Some(error)) => log::warn!("{id} is down: {error}"),
                (_, None) => log::warn!("{id} is down"),
            }
        }
        let checked = self.checked.entry(id.clone()).or_default();
        if checked.health != health {
            let word = if health == Health::Up { "up" } else { "down" };
            self.because.push(format!("{id} is {word}"));
            dirty.insert(id.service);
        }
        if let Some(why) = blind {
            let since = checked.blind.as_ref().map_or_else(SystemTime::now, |(_, since)| *since);
            checked.blind = Some((why, since));
            return;
        }
        checked.blind = None;
        checked.health = health;
        checked.took = Some(took);
        checked.failures = failures;
        checked.error = error;
    }

    /// What a router said that the way takes, and what the link takes; none where that is no less.
    pub(crate) fn path_mtu(&self, service: &Service, backend: &Backend) -> Option<(u32, u32)> {
        let told = self.paths.told(service, backend)?;
        let Reachability::Resolved(next_hop) = self.reachable.get(&Wanted::of(service, backend))? else {
            return None;
        };
        (told < next_hop.mtu).then_some((told, next_hop.mtu))
    }

    pub(crate) fn health(&self, service: &Service, id: &BackendId) -> Health {
        match service.health.kind {
            CheckKind::None => Health::Up,
            _ => self.checked.get(id).map_or(Health::Unknown, |checked| checked.health),
        }
    }
}
