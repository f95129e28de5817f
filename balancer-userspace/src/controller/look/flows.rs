//! What is counted against the table, every second.

use std::time::Instant;

use crate::alarm::catalogue;
use crate::control::api::{Gap, Layer};
use crate::controller::state::State;
use crate::controller::watch::drift::Drift;
use crate::controller::watch::gap::gap;
use crate::drift::{Snapshot, Watch};
use crate::model::{Protocol, Service, Tracking};

impl State {
    /// Counts new flows and judges them.
    pub(crate) fn watch_flows(&mut self, now: Instant) {
        let highest = crate::controller::kernel::allocate::index(self.kernel.pools.backends.highest());
        let groups = match self.kernel.plane.groups(highest) {
            Ok(groups) => groups,
            Err(error) => return log::error!("{error:#}"),
        };
        self.watch.drift.recorder.note(Snapshot { at: now, groups });
        let Drift { recorder, watches, .. } = &mut self.watch.drift;
        watches.retain(|name, _| self.kernel.programmed.contains_key(name));
        for service in self.desired.config.services.iter().filter(|service| is_judged(service)) {
            let Some(programmed) = self.kernel.programmed.get(&service.name) else { continue };
            let changed = programmed.changed.at;
            if watches.get(&service.name).is_none_or(|watch| watch.changed() != changed) {
                let watch = watches.get(&service.name).map_or_else(|| Watch::new(changed), |w| w.after_change(changed));
                watches.insert(service.name.clone(), watch);
            }
            if let Some(watch) = watches.get_mut(&service.name) {
                // UDP has no SYN: after a change, what pauses and goes on where it was looks new.
                if service.protocol == Protocol::Udp && programmed.counts.open > 0 {
                    watch.hold(now);
                }
                watch.look(recorder, &programmed.counts.groups);
            }
        }
    }

    /// Backends that get more or less than planned.
    pub(crate) fn skewed(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (name, watch) in &self.watch.drift.watches {
            for (index, skewed) in watch.skewed() {
                let (finding, window) = (skewed.finding, skewed.window.as_secs());
                let expected = format!("{:.2} % of new flows", finding.planned * 100.0);
                let found = format!(
                    "{:.2} % ({:+.0} % at its slots, over {window} s, score {:.1})",
                    finding.observed * 100.0,
                    finding.effect * 100.0,
                    finding.score
                );
                gaps.push(Gap {
                    service: Some(name.clone()),
                    backend: self.kernel.owner_name(name, *index),
                    entry: "new flows".to_owned(),
                    ..gap(catalogue::SKEWED.name, Layer::Kernel, Layer::Observed, &expected, &found)
                });
            }
        }
        gaps
    }
}

/// Whether new flows must follow the table. With full tracking of UDP, flows that pause begin anew where they were.
pub(crate) fn is_judged(service: &Service) -> bool {
    !(service.protocol == Protocol::Udp && service.connections.tracking == Tracking::Full)
}
