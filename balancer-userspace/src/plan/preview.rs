//! What a change would do to shares, slots and loads, before it is made: values in, values out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::control::api::{ChangeKind, PlannedBackend, PlannedService, Risk, WorstLoad};
use crate::load::Prediction;
use crate::maglev;
use crate::model::{BackendName, Service, ServiceName};

/// Services, and what is left of the weight of each of their backends, in the same order.
#[derive(Debug, Clone, Copy)]
pub struct Weighing<'a> {
    pub services: &'a [Service],
    pub weights: &'a [Vec<u32>],
    pub seed: u64,
}

impl<'a> Weighing<'a> {
    fn prediction(&self) -> Prediction<'a> {
        let weights = self.weights;
        Prediction::with(self.services, |service, backend| weights[service][backend])
    }

    /// Where each service is.
    fn places(&self) -> HashMap<&'a ServiceName, usize> {
        self.services.iter().enumerate().map(|(at, service)| (&service.name, at)).collect()
    }

    /// The backend that owns each slot.
    fn table(&self, at: usize) -> Vec<Option<&'a BackendName>> {
        let service = &self.services[at];
        let weights: Vec<_> = service
            .backends
            .iter()
            .zip(&self.weights[at])
            .map(|(backend, weight)| {
                (backend.name.clone(), crate::model::Weight::new(*weight).unwrap_or(backend.weight))
            })
            .collect();
        let owners = maglev::build(service.table_size, self.seed, &weights);
        if owners.is_empty() {
            return vec![None; service.table_size.get() as usize];
        }
        owners.iter().map(|owner| service.backends.get(usize::from(*owner)).map(|backend| &backend.name)).collect()
    }
}

/// What leads from one state to another, and how risky that is.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Services that are added, removed or changed.
    pub services: Vec<PlannedService>,
    pub worst_before: Option<WorstLoad>,
    pub worst_after: Option<WorstLoad>,
    pub risk: Risk,
    /// Why, the gravest first.
    pub why: Vec<String>,
}

impl Preview {
    pub fn of(before: &Weighing<'_>, after: &Weighing<'_>) -> Self {
        let services = services(before, after);
        let (worst_before, worst_after) = (worst(before), worst(after));
        let (risk, why) = risk(&services, worst_before.as_ref(), worst_after.as_ref());
        Self { services, worst_before, worst_after, risk, why }
    }
}

/// The most that a server would have to take after the loss of one, of its capacity.
fn worst(state: &Weighing<'_>) -> Option<WorstLoad> {
    let prediction = state.prediction();
    let name = |server: usize| {
        let (service, backend) = prediction.servers[server].members[0];
        let service = &state.services[service];
        format!("{}/{}", service.name, service.backends[backend].name)
    };
    let worst = prediction.worst_of_one();
    let (server, (load, lost)) = worst.iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    Some(WorstLoad { backend: name(*server), load: *load, without: name(*lost) })
}

/// Services that are added, removed or changed.
fn services(before: &Weighing<'_>, after: &Weighing<'_>) -> Vec<PlannedService> {
    let (was, will) = (Predicted::of(before), Predicted::of(after));
    let (places, places_after) = (before.places(), after.places());
    let mut planned = Vec::new();
    for (at, service) in after.services.iter().enumerate() {
        match places.get(&service.name).copied() {
            None => planned.push(one(None, Some((after, at, &will)))),
            Some(old) => {
                let same = before.services[old] == *service
                    && before.weights[old] == after.weights[at]
                    && before.seed == after.seed;
                if !same {
                    planned.push(one(Some((before, old, &was)), Some((after, at, &will))));
                }
            }
        }
    }
    let removed = before.services.iter().enumerate().filter(|(_, service)| !places_after.contains_key(&service.name));
    planned.extend(removed.map(|(at, _)| one(Some((before, at, &was)), None)));
    planned
}

/// What is predicted, and which server each backend is: by service, in the order of its backends.
struct Predicted<'a> {
    prediction: Prediction<'a>,
    server_of: Vec<Vec<usize>>,
}

impl<'a> Predicted<'a> {
    fn of(state: &Weighing<'a>) -> Self {
        let prediction = state.prediction();
        let mut server_of: Vec<Vec<usize>> =
            state.services.iter().map(|service| vec![0; service.backends.len()]).collect();
        for (at, server) in prediction.servers.iter().enumerate() {
            server.members.iter().for_each(|(service, backend)| server_of[*service][*backend] = at);
        }
        Self { prediction, server_of }
    }
}

/// A state, a service of it, and what was predicted for it.
type Side<'a, 'p> = (&'p Weighing<'a>, usize, &'p Predicted<'a>);

fn one(before: Option<Side<'_, '_>>, after: Option<Side<'_, '_>>) -> PlannedService {
    let (old, new) = (table(&before), table(&after));
    let service = |side: &Side<'_, '_>| side.0.services[side.1].clone();
    let (was, will) = (before.as_ref().map(service), after.as_ref().map(service));
    let same_mapping = was.as_ref().zip(will.as_ref()).is_some_and(|(was, will)| {
        let seed = |side: &Option<Side<'_, '_>>| side.as_ref().map(|(state, ..)| state.seed);
        was.table_size == will.table_size && was.affinity == will.affinity && seed(&before) == seed(&after)
    });
    let slots_moved = match (&was, &will) {
        (Some(_), Some(_)) if same_mapping => old.iter().zip(&new).filter(|(old, new)| old != new).count(),
        (Some(_), Some(_)) => new.len(),
        _ => 0,
    };
    let (old_shares, new_shares) = (shares(&old), shares(&new));
    let names: BTreeSet<&BackendName> =
        was.iter().chain(&will).flat_map(|service| &service.backends).map(|backend| &backend.name).collect();
    // Slots that each has, and those that it loses.
    let mut had: BTreeMap<&BackendName, (u32, u32)> = BTreeMap::new();
    for (slot, owner) in old.iter().enumerate() {
        if let Some(name) = owner {
            let (slots, leaving) = had.entry(name).or_default();
            *slots += 1;
            *leaving += u32::from(!same_mapping || new.get(slot) != Some(owner));
        }
    }
    let (members_before, members_after) = (members(&before), members(&after));
    let backends = names.into_iter().map(|name| {
        let (slots_before, slots_leaving) = had.get(name).copied().unwrap_or_default();
        let (old, new) = (members_before.get(name), members_after.get(name));
        PlannedBackend {
            name: name.clone(),
            change: change(old.is_some(), new.is_some(), old.map(|o| o.weight) == new.map(|n| n.weight)),
            weight_before: old.map(|member| member.weight),
            weight_after: new.map(|member| member.weight),
            share_before: old.map(|_| old_shares.get(name).copied().unwrap_or(0.0)),
            share_after: new.map(|_| new_shares.get(name).copied().unwrap_or(0.0)),
            slots_before,
            slots_leaving,
            load_before: old.and_then(|member| member.load),
            load_after: new.and_then(|member| member.load),
        }
    });
    let backends: Vec<PlannedBackend> = backends.collect();
    let kind = change(was.is_some(), will.is_some(), false);
    let name = will.as_ref().or(was.as_ref()).map(|service| service.name.clone());
    PlannedService {
        // One of both is there.
        name: name.unwrap_or_else(|| unreachable!("a planned service is before or after")),
        change: kind,
        slots: new.len().max(old.len()) as u32,
        slots_moved: slots_moved as u32,
        flows_following: None,
        backends,
    }
}

fn table<'a>(side: &Option<Side<'a, '_>>) -> Vec<Option<&'a BackendName>> {
    side.as_ref().map(|(state, at, _)| state.table(*at)).unwrap_or_default()
}

fn change(before: bool, after: bool, same: bool) -> ChangeKind {
    match (before, after) {
        (false, _) => ChangeKind::Added,
        (true, false) => ChangeKind::Removed,
        (true, true) if same => ChangeKind::Kept,
        (true, true) => ChangeKind::Changed,
    }
}

/// What is left of a backend's weight, and its server's predicted load.
struct Member {
    weight: u32,
    load: Option<f64>,
}

fn members<'a>(side: &Option<Side<'a, '_>>) -> HashMap<&'a BackendName, Member> {
    let Some((state, at, Predicted { prediction, server_of })) = side else { return HashMap::new() };
    let service = &state.services[*at];
    let member = |number: usize| {
        let server = server_of[*at][number];
        let load = prediction.now(server).of(prediction.servers[server].capacity);
        Member { weight: state.weights[*at][number], load }
    };
    service.backends.iter().enumerate().map(|(number, backend)| (&backend.name, member(number))).collect()
}

/// Exact, of the slots.
fn shares(table: &[Option<&BackendName>]) -> BTreeMap<BackendName, f64> {
    let mut counts: BTreeMap<&BackendName, u32> = BTreeMap::new();
    for name in table.iter().flatten() {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| (name.clone(), f64::from(count) / table.len() as f64)).collect()
}

/// Of a service whose slots move.
const LARGE_MOVE: f64 = 0.5;
const NOTABLE_MOVE: f64 = 0.1;
/// Of a server's capacity.
const FULL: f64 = 1.0;
const NEARLY_FULL: f64 = 0.8;

/// How much can go wrong, and why.
fn risk(
    services: &[PlannedService],
    worst_before: Option<&WorstLoad>,
    worst: Option<&WorstLoad>,
) -> (Risk, Vec<String>) {
    let mut reasons: Vec<(Risk, String)> = Vec::new();
    for service in services {
        let name = &service.name;
        let moved = f64::from(service.slots_moved) / f64::from(service.slots.max(1));
        match service.change {
            ChangeKind::Removed => {
                reasons.push((Risk::High, format!("{name} is removed: its packets pass to the host")))
            }
            ChangeKind::Added => reasons.push((Risk::Low, format!("{name} is new"))),
            _ if moved > LARGE_MOVE => {
                reasons.push((Risk::High, format!("{name}: {:.0} % of its slots move", moved * 100.0)))
            }
            _ if moved > NOTABLE_MOVE => {
                reasons.push((Risk::Medium, format!("{name}: {:.0} % of its slots move", moved * 100.0)));
            }
            _ => reasons.push((Risk::Low, format!("{name}: {:.1} % of its slots move", moved * 100.0))),
        }
        for backend in &service.backends {
            let (before, after) = (backend.load_before.unwrap_or(0.0), backend.load_after.unwrap_or(0.0));
            let said =
                || format!("{name}/{} would get {:.0} % of its capacity at the peak", backend.name, after * 100.0);
            if after > FULL && after > before {
                reasons.push((Risk::High, said()));
            } else if after > NEARLY_FULL && after > before {
                reasons.push((Risk::Medium, said()));
            }
        }
        let all_gone = service.change != ChangeKind::Removed
            && service.backends.iter().all(|backend| backend.share_after.unwrap_or(0.0) == 0.0);
        if all_gone {
            reasons.push((Risk::High, format!("{name} would have no backend that takes new flows")));
        }
    }
    if let Some(worst) = worst
        && worst.load > FULL
        && worst_before.is_none_or(|before| worst.load > before.load)
    {
        let said = format!(
            "without {} {} would get {:.0} % of its capacity",
            worst.without,
            worst.backend,
            worst.load * 100.0
        );
        reasons.push((Risk::Medium, said));
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.0));
    let most = reasons.first().map_or(Risk::None, |(risk, _)| *risk);
    (most, reasons.into_iter().map(|(_, said)| said).collect())
}
