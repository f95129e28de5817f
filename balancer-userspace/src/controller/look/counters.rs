//! Counters against what they were at the last comparison.

use anyhow::Result;

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::state::State;
use crate::controller::watch::counters::give_back;
use crate::controller::watch::gap::gap;
use crate::dataplane::Counters;
use crate::model::ServiceName;

impl State {
    /// Counters that went back since the last comparison.
    pub(crate) fn compare_counters(&mut self, heal: bool) -> Result<Vec<Gap>> {
        let counters = self.kernel.counters()?;
        let mut seen = vec![None; counters.len()];
        let mut of_service: Option<(&ServiceName, u64)> = None;
        for (id, allocated) in &self.kernel.allocations.backends {
            // Backends of a service stand side by side.
            if of_service.is_none_or(|(name, _)| *name != id.service) {
                let programmed = self.kernel.programmed.get(&id.service);
                of_service = programmed.map(|programmed| (&id.service, programmed.generation));
            }
            let place = usize::from(allocated.index);
            if let (Some((name, generation)), Some(seen)) = (of_service, seen.get_mut(place))
                && *name == id.service
            {
                *seen = Some((allocated.base, generation, counters[place]));
            }
        }
        let fallen = self.watch.drift.counters.note(seen);
        let mut gaps = Vec::new();
        for (place, was, is) in fallen {
            let mut all = self.kernel.allocations.backends.iter();
            let Some(id) = all.find(|(_, there)| there.index == place).map(|(id, _)| id.clone()) else { continue };
            let said = |counters: Counters| format!("{} packets, {} new flows", counters.packets, counters.new_flows);
            let expected = format!("at least {}", said(was));
            if heal && let Some(base) = give_back(&mut self.kernel.allocations, &id, was, is) {
                self.watch.drift.counters.rebase(place, base);
            }
            gaps.push(Gap {
                service: Some(id.service),
                backend: Some(id.backend),
                entry: "counters".to_owned(),
                healed: heal,
                ..gap(catalogue::SETTINGS.name, Layer::Planned, Layer::Kernel, &expected, &said(is))
            });
        }
        if gaps.iter().any(|gap| gap.healed) {
            self.store.save_allocations(&self.kernel.allocations)?;
        }
        Ok(gaps)
    }
}
