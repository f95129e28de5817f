//! A change of tables is tried before it is made: in a shadow of the program and its maps, packets of slots of each backend,
//! of those that move and of those that stay, must go to the very backend that was planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use balancer_common::slot::{BackendIndex, NO_BACKEND};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::apply::Prepared;
use crate::controller::kernel::samples::{Kinds, chosen};
use crate::controller::kernel::trial::Trial;
use crate::dataplane::{Image, NewTable, Shadow, XDP_REDIRECT, XDP_TX};
use crate::model::{Service, ServiceName, Services};
use crate::plan::ServicePlan;
use crate::service_manager;

impl Kernel {
    /// Has the shadow there before somebody waits for it.
    pub(crate) fn keep_shadow(&mut self) {
        if self.rehearsal.tried {
            return;
        }
        let Some(mut there) = self.rehearsal.shadow.try_lock() else { return };
        if there.is_none() {
            match self.plane.shadow() {
                Ok(shadow) => *there = Some(shadow),
                Err(error) => log::warn!("changes can't be tried before they are made: {error:#}"),
            }
        }
        drop(there);
        self.rehearsal.tried = true;
    }

    /// Tries the tables that are to be published, but those that were tried ahead.
    ///
    /// # Errors
    /// The first service whose packets would not go where they should; nothing was changed.
    pub(crate) fn try_tables(&self, trial: Trial, services: &Services, prepared: &Prepared) -> Result<()> {
        let tables = &prepared.changes.publish;
        let places: BTreeSet<u32> =
            tables.iter().map(|(place, _)| *place).filter(|place| !prepared.tried.contains(place)).collect();
        let of_place = |(name, plan): &'_ (ServiceName, ServicePlan)| {
            Some(name).filter(|_| places.contains(&plan.entry.table)).and_then(|name| services.by_name(name))
        };
        let tried: Vec<(&Service, &ServicePlan)> =
            prepared.plans.iter().filter_map(|named| Some((of_place(named)?, &named.1))).collect();
        if tried.is_empty() {
            return Ok(());
        }
        let mut there = self.rehearsal.shadow.lock();
        if there.is_none() {
            match self.plane.shadow() {
                Ok(shadow) => *there = Some(shadow),
                // Whoever shifts load in a hurry is not held up by it.
                Err(error) if trial == Trial::COMMAND => {
                    log::warn!("not tried before it is made: {error:#}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let moved: HashMap<u32, &[u32]> =
            prepared.changes.opened.iter().map(|opened| (opened.number, opened.slots.as_slice())).collect();
        try_in(&mut there, trial, &tried, tables, &moved)
    }
}

/// Tries the tables of these services, of those at their places: `moved` says which slots open, by number of the service. Where
/// that fails, the next trial gets another shadow: what this one holds by then is not known.
///
/// # Errors
/// The first service whose packets would not go where they should.
pub(crate) fn try_in(
    there: &mut Option<Shadow>,
    trial: Trial,
    tried: &[(&Service, &ServicePlan)],
    tables: &[(u32, NewTable)],
    moved: &HashMap<u32, &[u32]>,
) -> Result<()> {
    let Some(shadow) = there.as_mut() else { return Ok(()) };
    let outcome = try_all(shadow, trial, tried, tables, moved);
    if outcome.is_err() {
        *there = None;
    }
    outcome
}

fn try_all(
    shadow: &mut Shadow,
    trial: Trial,
    tried: &[(&Service, &ServicePlan)],
    tables: &[(u32, NewTable)],
    moved: &HashMap<u32, &[u32]>,
) -> Result<()> {
    let mut image = Image::default();
    for (_, plan) in tried {
        plan.add_lookups(&mut image);
        plan.add_backends(&mut image);
    }
    image.sort_ranges();
    let places: BTreeSet<u32> = tried.iter().map(|(_, plan)| plan.entry.table).collect();
    shadow.prepare(image, tables.iter().filter(|(place, _)| places.contains(place)))?;
    let each = trial.packets / tried.len().max(1);
    tried.iter().try_for_each(|(service, plan)| {
        service_manager::progress();
        let moved = moved.get(&u32::from(plan.entry.number)).copied().unwrap_or_default();
        try_one(shadow, service, plan, moved, each)
    })
}

fn try_one(shadow: &mut Shadow, service: &Service, plan: &ServicePlan, moved: &[u32], packets: usize) -> Result<()> {
    let name = &service.name;
    let indices: Vec<BackendIndex> = plan.weighted.iter().map(|weighted| weighted.index).collect();
    let before = shadow.packets_of(&indices)?;
    let mut wanted: BTreeMap<BackendIndex, u64> = BTreeMap::new();
    let owners = plan.owners();
    for flow in chosen(service, &plan.entry, Kinds::of(&owners, moved), packets) {
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
}
