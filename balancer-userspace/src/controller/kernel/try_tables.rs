//! A change of tables is tried before it is made: in a shadow of the program and its maps, packets of slots of each backend,
//! of those that move and of those that stay, must go to the very backend that was planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use balancer_common::slot::{BackendIndex, NO_BACKEND};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::samples::{Kinds, chosen};
use crate::controller::kernel::trial::Trial;
use crate::dataplane::{Changes, Image, XDP_REDIRECT, XDP_TX};
use crate::model::{ServiceName, Services};
use crate::plan::ServicePlan;
use crate::service_manager;

impl Kernel {
    /// Has the shadow there before somebody waits for it.
    pub(crate) fn keep_shadow(&mut self) {
        if self.rehearsal.shadow.is_none() && !std::mem::replace(&mut self.rehearsal.tried, true) {
            match self.plane.shadow() {
                Ok(shadow) => self.rehearsal.shadow = Some(shadow),
                Err(error) => log::warn!("changes can't be tried before they are made: {error:#}"),
            }
        }
    }

    /// Tries the tables that are to be published.
    ///
    /// # Errors
    /// The first service whose packets would not go where they should; nothing was changed.
    pub(crate) fn try_tables(
        &mut self,
        trial: Trial,
        services: &Services,
        plans: &[(ServiceName, ServicePlan)],
        changes: &Changes,
    ) -> Result<()> {
        let tables = &changes.publish;
        let places: BTreeSet<u32> = tables.iter().map(|(place, _)| *place).collect();
        let tried: Vec<&(ServiceName, ServicePlan)> =
            plans.iter().filter(|(_, plan)| places.contains(&plan.entry.table)).collect();
        if tried.is_empty() {
            return Ok(());
        }
        let mut image = Image::default();
        for (_, plan) in &tried {
            plan.add_lookups(&mut image);
            plan.add_backends(&mut image);
        }
        image.sort_ranges();
        let mut shadow = match self.rehearsal.shadow.take() {
            Some(shadow) => shadow,
            None => match self.plane.shadow() {
                Ok(shadow) => shadow,
                // Whoever shifts load in a hurry is not held up by it.
                Err(error) if trial == Trial::COMMAND => {
                    log::warn!("not tried before it is made: {error:#}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        shadow.prepare(image, tables)?;
        let moved: HashMap<u32, &[u32]> =
            changes.opened.iter().map(|opened| (opened.number, opened.slots.as_slice())).collect();
        let each = trial.packets / tried.len();
        let outcome = tried.iter().try_for_each(|(name, plan)| {
            let Some(service) = services.by_name(name) else { return Ok(()) };
            service_manager::progress();
            let indices: Vec<BackendIndex> = plan.weighted.iter().map(|weighted| weighted.index).collect();
            let before = shadow.packets_of(&indices)?;
            let mut wanted: BTreeMap<BackendIndex, u64> = BTreeMap::new();
            let owners = plan.owners();
            let moved = moved.get(&u32::from(plan.entry.number)).copied().unwrap_or_default();
            let flows = chosen(service, &plan.entry, Kinds::of(&owners, moved), each);
            for flow in flows {
                let owner = owners[flow.slot as usize];
                let answer = shadow.send(&flow.frame)?;
                let goes = matches!(answer, XDP_TX | XDP_REDIRECT);
                ensure!(
                    goes == (owner != NO_BACKEND),
                    "tried before the change, a packet of slot {} of {name} {}",
                    flow.slot,
                    if goes { "was sent to a backend, but none takes flows" } else { "was not sent to a backend" }
                );
                *wanted.entry(owner).or_default() += u64::from(goes);
            }
            let after = shadow.packets_of(&indices)?;
            for weighted in &plan.weighted {
                let at = &weighted.index;
                let got = after.get(at).copied().unwrap_or(0) - before.get(at).copied().unwrap_or(0);
                let should = wanted.get(at).copied().unwrap_or(0);
                ensure!(
                    got == should,
                    "tried before the change, {name}/{} got {got} packets instead of {should}: the table is not what was planned",
                    weighted.name
                );
            }
            Ok(())
        });
        self.rehearsal.shadow = Some(shadow);
        outcome
    }
}
