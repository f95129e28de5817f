//! Weights that nothing explains, or that the table can't show.

use super::{Kind, Lint, percent};
use crate::maglev;
use crate::model::{Amount, Backend, Service};
use crate::spec::service::Read;

/// A share that rounding changes by more than this part of itself.
const ROUGH: f64 = 0.05;

pub(super) fn check(lint: &Lint<'_>) {
    for (number, (service, read)) in lint.judged() {
        if service.backends.iter().all(|backend| backend.weight.is_zero()) {
            continue;
        }
        against_capacities(lint, service, read);
        resolution(lint, number, service, read);
        largest(lint, number, service, read);
    }
}

/// Each backend has as much weight for its capacity as the others, but for the tolerance.
fn against_capacities(lint: &Lint<'_>, service: &Service, read: &Read) {
    // Who takes no new flows compares with nobody.
    let taking: Vec<usize> = (0..service.backends.len()).filter(|at| !service.backends[*at].weight.is_zero()).collect();
    let plain = Spread::of(&taking, |at| f64::from(service.backends[at].weight.get()));
    let per_capacity = explained(service, &taking);
    let (Some(plain), most) = (plain, 1.0 + lint.node.lint.tolerance.get()) else { return };
    let Some(spread) = per_capacity.or(Some(plain)).filter(|spread| spread.ratio > most) else { return };
    let weight = |at: usize| service.backends[at].weight.get();
    if per_capacity.is_some() && weight(plain.lowest) == weight(plain.highest) {
        let span = read.backends[taking[0]].capacity.as_ref().map_or(read.span.clone(), |c| c.span.clone());
        let all = weight(plain.lowest);
        let message = format!("backends of {} have different capacities, but all have weight {all}", service.name);
        let help = "weights in proportion to the capacities use all";
        return lint.about_service_by(Kind::UnusedCapacity, spread.ratio, service, span, message, help);
    }
    let backend = &read.backends[spread.highest];
    let span = backend.weight_span.clone().unwrap_or_else(|| backend.span.clone());
    let (low, high) = (&service.backends[spread.lowest], &service.backends[spread.highest]);
    let message = match per_capacity {
        Some(_) => format!(
            "weights of {} are not in proportion to the capacities: for its capacity {} has {:.1} times the weight of {}",
            service.name, high.name, spread.ratio, low.name
        ),
        None => format!(
            "weights of {} are {} to {}, and no different capacities explain it",
            service.name, low.weight, high.weight
        ),
    };
    let help = "give each backend its `capacity`, make the weights equal, or silence this and say why";
    lint.about_service_by(Kind::UnexplainedWeights, spread.ratio, service, span, message, help);
}

/// Weights per capacity, in the unit in which they differ least, where every backend declares one in the same unit.
fn explained(service: &Service, taking: &[usize]) -> Option<Spread> {
    let by = |unit: fn(&Amount) -> Option<u64>| {
        let capacity = |backend: &Backend| unit(&backend.capacity);
        taking.iter().all(|at| capacity(&service.backends[*at]).is_some()).then_some(())?;
        Spread::of(taking, |at| {
            let backend = &service.backends[at];
            f64::from(backend.weight.get()) / capacity(backend).map_or(1.0, |most| most as f64)
        })
    };
    let units = by(|amount| amount.new_flows).into_iter().chain(by(|amount| amount.bits));
    units.min_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// Who has least and who has most of something, and how many times as much.
#[derive(Debug, Clone, Copy)]
struct Spread {
    lowest: usize,
    highest: usize,
    ratio: f64,
}

impl Spread {
    fn of(among: &[usize], value: impl Fn(usize) -> f64) -> Option<Self> {
        let (mut lowest, mut highest) = (*among.first()?, *among.first()?);
        for at in among {
            if value(*at) < value(lowest) {
                lowest = *at;
            }
            if value(*at) > value(highest) {
                highest = *at;
            }
        }
        Some(Self { lowest, highest, ratio: value(highest) / value(lowest) })
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
    let table = maglev::build(service.table_size, lint.node.seed, &weights);
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
        lint.about_backend_by(Kind::LargeShare, share, (number, at), span, message, help);
    }
}
