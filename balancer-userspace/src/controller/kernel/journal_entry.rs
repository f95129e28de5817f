//! What of a table the journal keeps.

use crate::journal::{Change, Mark, Secret};
use crate::model::ServiceName;
use crate::plan::ServicePlan;

/// What of a service's plan decides on owners.
pub(crate) fn table_of(service: &ServiceName, plan: &ServicePlan, cause: String, generation: u64) -> Change {
    let secret = Secret { seed: plan.seed, keys: [plan.entry.keys.first, plan.entry.keys.second] };
    Change {
        generation,
        at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
        service: service.clone(),
        cause,
        mark: Mark::of(&secret),
        secret: Some(secret),
        table_size: plan.table_size,
        port_mask: plan.entry.port_mask,
        weights: plan.weighted.iter().map(|weighted| (weighted.name.clone(), weighted.weight)).collect(),
    }
}
