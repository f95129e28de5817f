//! Tables that were made ahead, outside of the controller's task. The step takes those that are still what it plans.

use std::collections::BTreeMap;

use crate::dataplane::{NewTable, Stamp};
use crate::model::ServiceName;
use crate::plan::ServicePlan;

/// A table that was made ahead, and what it was made from.
pub(crate) struct Draft {
    pub(crate) plan: ServicePlan,
    /// Of the table that it follows.
    pub(crate) stamp: Option<Stamp>,
    pub(crate) table: NewTable,
    /// Slots that open.
    pub(crate) moved: Vec<u32>,
    pub(crate) tried: bool,
}

/// Tables by their services.
#[derive(Default)]
pub(crate) struct Drafts(BTreeMap<ServiceName, Draft>);

impl Drafts {
    pub(crate) fn new(drafts: impl IntoIterator<Item = (ServiceName, Draft)>) -> Self {
        Self(drafts.into_iter().collect())
    }

    /// The service's table, where it was made from this plan and follows this very table. What differs is thrown away.
    pub(crate) fn take(&mut self, name: &ServiceName, plan: &ServicePlan, stamp: Option<Stamp>) -> Option<Draft> {
        self.0.remove(name).filter(|draft| draft.plan == *plan && draft.stamp == stamp)
    }
}
