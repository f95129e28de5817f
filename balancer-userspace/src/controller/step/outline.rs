//! What the tables of another config would be made from, as all stands now.

use crate::controller::desired::admit::differences;
use crate::controller::kernel::outline::Outline;
use crate::controller::kernel::placement::Placement;
use crate::controller::state::State;
use crate::model::Config;

impl State {
    /// Of services that stay where they are in the maps: others are few, and their tables are made by the step.
    pub(crate) fn outline(&mut self, config: &Config) -> Outline {
        let mut outline = self.kernel.outline();
        let same_node = self.desired.config.node == config.node;
        if !self.kernel.is_in_step() || self.desired.probation.is_some() || !same_node {
            return outline;
        }
        let (_, _, changed) = differences(&self.desired.config, config);
        for service in changed.iter().filter_map(|name| config.services.by_name(name)) {
            if !self.kernel.is_placed(service, &config.node) {
                continue;
            }
            let mut given = Placement { now: self.kernel.plane.clock(), ..Placement::default() };
            let facts = self.facts(service);
            let plan = self.kernel.plan(service, facts, &config.node, &mut given);
            if let Some((allocations, pools)) = given.before.take() {
                (self.kernel.allocations, self.kernel.pools) = (allocations, pools);
                continue;
            }
            let stays = given.former.is_empty() && given.returning.is_empty() && given.freed_tables.is_empty();
            if let (Ok(plan), true) = (plan, stays) {
                outline.add(&self.kernel, service, plan);
            }
        }
        outline
    }
}
