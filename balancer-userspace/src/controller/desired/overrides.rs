//! Weights and drains that commands set over the file.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::controller::desired::Desired;
use crate::controller::desired::listed::listed;
use crate::controller::refusal::Refusal;
use crate::model::{Backend, BackendId, Service};
use crate::state::Override;

impl Desired {
    pub(crate) fn find(&self, id: &BackendId) -> Result<(&Service, &Backend), Refusal> {
        let missing = |what: String, there: Vec<&str>| {
            Refusal::NotFound(format!("there is no {what}; there are: {}", listed(&there)))
        };
        let service = self.service(&id.service).ok_or_else(|| {
            missing(format!("service {}", id.service), self.config.services.iter().map(|s| s.name.as_str()).collect())
        })?;
        let backend = service.backends.iter().find(|backend| backend.name == id.backend).ok_or_else(|| {
            let there = service.backends.iter().map(|b| b.name.as_str()).collect();
            missing(format!("backend {} in service {}", id.backend, id.service), there)
        })?;
        Ok((service, backend))
    }

    pub(crate) fn set_override(
        &mut self,
        id: &BackendId,
        uid: Option<u32>,
        change: impl FnOnce(&mut Override),
    ) -> Result<(), Refusal> {
        let file_weight = self.find(id)?.1.weight.get();
        let mut set = self.overrides.remove(id).unwrap_or(Override {
            weight: None,
            file_weight,
            drained: false,
            by_uid: 0,
            at: String::new(),
        });
        change(&mut set);
        (set.by_uid, set.at) = (uid.unwrap_or(0), now());
        if set.weight.is_some() || set.drained {
            self.overrides.insert(id.clone(), set);
        }
        Ok(())
    }

    /// Ends what commands set where the file has become newer: its weight changed, or the backend went.
    pub(crate) fn end_overrides(&mut self) -> Vec<BackendId> {
        let mut file_weights = BTreeMap::new();
        for service in &self.config.services {
            for backend in &service.backends {
                file_weights.insert(service.id_of(backend), backend.weight.get());
            }
        }
        let mut ended = Vec::new();
        self.overrides.retain(|id, set| {
            let file = file_weights.get(id);
            if set.weight.is_some() && file != Some(&set.file_weight) {
                set.weight = None;
                ended.push(id.clone());
            }
            let keep = file.is_some() && (set.weight.is_some() || set.drained);
            if !keep && !ended.contains(id) {
                ended.push(id.clone());
            }
            keep
        });
        for id in &ended {
            log::info!("what a command had set for {id} ended: the file's weight changed or the backend went");
        }
        ended
    }
}

pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
