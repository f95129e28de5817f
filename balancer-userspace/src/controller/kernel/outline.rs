//! The tables that another config would need, computed, made and tried outside of the controller's task: many of them take a
//! second, in which no backend's health would be taken in.

use std::collections::HashMap;

use anyhow::Result;
use balancer_common::slot::{BackendIndex, Slot};

use crate::controller::kernel::Kernel;
use crate::controller::kernel::allocate::identity;
use crate::controller::kernel::build::in_parallel;
use crate::controller::kernel::drafts::{Draft, Drafts};
use crate::controller::kernel::trial::{SharedShadow, Trial};
use crate::controller::kernel::try_tables::try_in;
use crate::dataplane::{NewTable, Stamp};
use crate::model::{Backend, Gate, Node, Service};
use crate::plan::{ServicePlan, step};

/// What a table is made from.
struct Outlined {
    service: Service,
    plan: ServicePlan,
    stamp: Option<Stamp>,
    before: Option<Vec<Slot>>,
}

/// What tables are made from, as all stands now.
pub(crate) struct Outline {
    outlined: Vec<Outlined>,
    shadow: SharedShadow,
}

impl Kernel {
    pub(crate) fn outline(&self) -> Outline {
        Outline { outlined: Vec::new(), shadow: self.rehearsal.shadow.clone() }
    }

    /// Whether the service and all of its backends have the places that they need, and no others.
    pub(crate) fn is_placed(&self, service: &Service, node: &Node) -> bool {
        let has_place = |backend: &Backend| {
            let id = service.id_of(backend);
            let passed = service.gate != Gate::Health || self.allocations.passed.get(&id) == Some(&backend.address);
            let allocated = self.allocations.backends.get(&id);
            passed && allocated.is_some_and(|allocated| allocated.identity == identity(service, backend, node))
        };
        self.allocations.services.contains_key(&service.name)
            && self.absent_backends(service).is_empty()
            && service.backends.iter().all(has_place)
    }
}

impl Outline {
    /// Adds a service, where its table is to be another than the one in the kernel, at the same place.
    pub(crate) fn add(&mut self, kernel: &Kernel, service: &Service, plan: ServicePlan) {
        let place = plan.entry.table;
        let there = kernel.programmed.get(&service.name).filter(|there| there.plan.entry.table == place);
        let Some(there) = there.filter(|there| !there.holds(&plan)) else { return };
        let before = kernel.plane.written_table(place, || there.plan.settled_slots()).ok();
        let before = before.filter(|slots| slots.len() == plan.table_size.get() as usize);
        self.outlined.push(Outlined { service: service.clone(), plan, stamp: kernel.plane.stamp(place), before });
    }

    /// Makes the tables and tries them. Where anything fails there are none: the step meets the same, and says so.
    pub(crate) fn finish(self) -> Drafts {
        self.made_and_tried().unwrap_or_else(|error| {
            log::warn!("tables could not be made ahead: {error:#}");
            Drafts::default()
        })
    }

    fn made_and_tried(self) -> Result<Drafts> {
        let built = in_parallel(&self.outlined, |Outlined { plan, before, .. }| -> Result<_> {
            let alive = |index: BackendIndex| !plan.dead.contains(&index);
            let step = step(before.as_deref(), &plan.owners(), plan.keeps, alive);
            Ok((plan.entry.table, NewTable::new(&step.slots)?, step.moved))
        });
        let (mut tables, mut moved) = (Vec::new(), Vec::new());
        for table in built {
            let (place, table, slots) = table?;
            tables.push((place, table));
            moved.push(slots);
        }
        let tried = self.are_tried(&tables, &moved)?;
        let made = tables.into_iter().zip(moved).map(|((_, table), moved)| (table, moved));
        let drafts = self.outlined.into_iter().zip(made).map(|(outlined, (table, moved))| {
            let Outlined { service, plan, stamp, .. } = outlined;
            (service.name, Draft { plan, stamp, table, moved, tried })
        });
        Ok(Drafts::new(drafts))
    }

    /// Whether there was anything to try them in.
    ///
    /// # Errors
    /// Where packets did not go where they were planned to go.
    fn are_tried(&self, tables: &[(u32, NewTable)], moved: &[Vec<u32>]) -> Result<bool> {
        let mut shadow = self.shadow.lock();
        if shadow.is_none() || self.outlined.is_empty() {
            return Ok(false);
        }
        let plans: Vec<(&Service, &ServicePlan)> =
            self.outlined.iter().map(|outlined| (&outlined.service, &outlined.plan)).collect();
        let numbers = plans.iter().map(|(_, plan)| u32::from(plan.entry.number));
        let moved: HashMap<u32, &[u32]> = numbers.zip(moved.iter().map(Vec::as_slice)).collect();
        try_in(&mut shadow, Trial::FILE, &plans, tables, &moved)?;
        Ok(true)
    }
}
