//! Weights that nothing explains, or that the table can't show.

use std::collections::BTreeSet;

use super::{Kind, Lint, percent};
use crate::maglev;
use crate::model::{Amount, Service};
use crate::spec::service::Read;

/// A share that rounding changes by more than this part of itself.
const ROUGH: f64 = 0.05;

pub(super) fn check(lint: &Lint<'_>) {
    for (number, (service, read)) in lint.services().enumerate() {
        if service.backends.iter().all(|backend| backend.weight.is_zero()) {
            continue;
        }
        against_capacities(lint, service, read);
        resolution(lint, number, service, read);
        largest(lint, number, service, read);
    }
}

fn against_capacities(lint: &Lint<'_>, service: &Service, read: &Read) {
    // Who takes no new flows compares with nobody.
    let taking: Vec<usize> = (0..service.backends.len()).filter(|at| !service.backends[*at].weight.is_zero()).collect();
    let weights: BTreeSet<u32> = taking.iter().map(|at| service.backends[*at].weight.get()).collect();
    let capacities: Vec<Amount> = taking.iter().map(|at| service.backends[*at].capacity).collect();
    let same_capacities = capacities.windows(2).all(|pair| pair[0] == pair[1]);
    let Some((lightest, heaviest)) = weights.first().zip(weights.last()) else { return };
    let odd = |weight: u32| taking.iter().copied().find(|at| service.backends[*at].weight.get() == weight);
    if lightest != heaviest && same_capacities {
        let Some(at) = odd(*heaviest) else { return };
        let backend = &read.backends[at];
        let span = backend.weight_span.clone().unwrap_or_else(|| backend.span.clone());
        let message =
            format!("weights of {} are {lightest} to {heaviest}, and no different capacities explain it", service.name);
        let help = "give each backend its `capacity`, make the weights equal, or silence this and say why";
        lint.about_service(Kind::UnexplainedWeights, service, span, message, help);
    }
    if lightest == heaviest && !same_capacities && capacities.iter().all(|capacity| capacity.is_known()) {
        let span = read.backends[taking[0]].capacity.as_ref().map_or(read.span.clone(), |c| c.span.clone());
        let message = format!("backends of {} have different capacities, but all have weight {lightest}", service.name);
        lint.about_service(
            Kind::UnusedCapacity,
            service,
            span,
            message,
            "weights in proportion to the capacities use all",
        );
    }
}

fn resolution(lint: &Lint<'_>, number: usize, service: &Service, read: &Read) {
    let size = f64::from(service.table_size.get());
    let exact = |at: usize| lint.prediction.share(number, at) * size;
    let rough = |at: &usize| (0.0..0.5 / ROUGH).contains(&exact(*at)) && exact(*at) > 0.0;
    if !(0..service.backends.len()).any(|at| rough(&at)) {
        return;
    }
    // The shares that really result.
    let weights: Vec<_> = service.backends.iter().map(|backend| (backend.name.clone(), backend.weight)).collect();
    let table = maglev::build(service.table_size, lint.config.node.seed, &weights);
    let slots = maglev::slot_counts(&table, service.backends.len());
    for at in (0..service.backends.len()).filter(rough) {
        let (wanted, got) = (exact(at) / size, f64::from(slots[at]) / size);
        if (got - wanted).abs() <= wanted * ROUGH {
            continue;
        }
        let backend = &read.backends[at];
        let span = backend.weight_span.clone().unwrap_or_else(|| backend.span.clone());
        let message = format!(
            "{} gets {} of {size} slots: {:.4} % instead of {:.4} %",
            lint.name((number, at)),
            slots[at],
            got * 100.0,
            wanted * 100.0
        );
        let help = "take a larger `table_size`, or weights that differ less".to_owned();
        lint.about_backend(Kind::Resolution, (number, at), span, message, help);
    }
}

fn largest(lint: &Lint<'_>, number: usize, service: &Service, read: &Read) {
    let taking = service.backends.iter().filter(|backend| !backend.weight.is_zero()).count();
    if taking < 2 {
        return;
    }
    for at in 0..service.backends.len() {
        let share = lint.prediction.share(number, at);
        if share <= service.max_share.get() {
            continue;
        }
        let backend = &read.backends[at];
        let span = backend.weight_span.clone().unwrap_or_else(|| backend.span.clone());
        let most = percent(service.max_share.get());
        let message = format!("{} has {} of the service", lint.name((number, at)), percent(share));
        let help = format!("more than `service.max_share` = {most}; spread the weights, or raise it");
        lint.about_backend(Kind::LargeShare, (number, at), span, message, help);
    }
}
