//! Predicted loads against capacities: with all servers there, without each one of them, without each failure domain.

use super::{Kind, Lint, percent};
use crate::load::{Load, Server};
use crate::model::Amount;

/// Of the capacity, with all servers there and after a loss.
const NEAR: f64 = 0.8;
const NEAR_AFTER_LOSS: f64 = 0.9;

pub(super) fn check(lint: &Lint<'_>) {
    let prediction = lint.prediction;
    let singles = prediction.worst_of_one();
    let mut domains = prediction.domain_losses();
    // The only server here of a domain that has others elsewhere.
    for (at, server) in prediction.servers.iter().enumerate() {
        let Some(domain) = &server.failure_domain else { continue };
        if lint.domains_elsewhere.contains(domain) && domains.iter().all(|(name, _)| name != domain) {
            domains.push((domain.clone(), vec![at]));
        }
    }
    let groups: Vec<Vec<usize>> = domains.iter().map(|(_, servers)| servers.clone()).collect();
    let by_domain = prediction.worst_of(&groups);
    let judged = |server: &Server| server.members.iter().any(|(service, _)| lint.judged[*service]);
    for (at, server) in prediction.servers.iter().enumerate().filter(|(_, server)| judged(server)) {
        let Some(now) = prediction.now(at).of(server.capacity) else { continue };
        let place = |kind, part, message: String| {
            let (service, backend) = server.members[0];
            let read = &lint.places[service].backends[backend];
            let span = read.capacity.as_ref().map_or(read.span.clone(), |capacity| capacity.span.clone());
            let help = format!("with all servers there it gets {}", needs(prediction.now(at), server.capacity));
            lint.about_backend_by(kind, part, (service, backend), span, message, help);
        };
        let name = format!("{} ({})", lint.name(server.members[0]), server.address);
        if now > 1.0 {
            place(Kind::Overload, now, format!("{name} would get {} of its capacity at the peak", percent(now)));
            // What follows from it need not be said.
            continue;
        }
        let single = singles.get(&at).copied().unwrap_or_default();
        let domain = by_domain.get(&at).copied().unwrap_or_default();
        let lost = prediction.servers.get(single.1).map_or(String::new(), |server| lint.name(server.members[0]));
        if single.0 > 1.0 {
            let message = format!("{name} would get {} of its capacity without {lost}", percent(single.0));
            place(Kind::OverloadAfterLoss, single.0, message);
        }
        if domain.0 > 1.0 {
            let lost = &domains[domain.1].0;
            let message = format!("{name} would get {} of its capacity without all of {lost:?}", percent(domain.0));
            place(Kind::OverloadAfterDomain, domain.0, message);
        }
        if single.0.max(domain.0) > 1.0 {
            continue;
        }
        if now > NEAR {
            place(Kind::NearLimit, now, format!("{name} would get {} of its capacity at the peak", percent(now)));
        } else if single.0 > NEAR_AFTER_LOSS {
            place(
                Kind::NearLimit,
                single.0,
                format!("{name} would get {} of its capacity without {lost}", percent(single.0)),
            );
        } else if domain.0 > NEAR_AFTER_LOSS {
            let lost = &domains[domain.1].0;
            place(
                Kind::NearLimit,
                domain.0,
                format!("{name} would get {} of its capacity without all of {lost:?}", percent(domain.0)),
            );
        }
    }
}

/// What arrives at the peak, and what fits.
fn needs(load: Load, capacity: Amount) -> String {
    let flows = capacity.new_flows.map(|most| format!("{:.0} of {most} new flows a second", load.new_flows));
    let bits = capacity.bits.map(|most| format!("{:.0} of {most} bits a second", load.bits));
    flows.into_iter().chain(bits).collect::<Vec<_>>().join(" and ") + " at the peak"
}

/// Half of what a prediction needs.
pub(super) fn unknown(lint: &Lint<'_>) {
    for (service, read) in lint.services() {
        let known = service.backends.iter().filter(|backend| backend.capacity.is_known()).count();
        let message = match (service.peak.is_known(), known, service.backends.len()) {
            (true, known, all) if known < all => {
                format!("{} of {all} backends have no `capacity`: their loads can't be predicted", all - known)
            }
            (false, 1.., _) => "backends have a `capacity`, but the service has no `peak`".to_owned(),
            _ => continue,
        };
        let span = read.peak.as_ref().map_or(read.span.clone(), |peak| peak.span.clone());
        let help = "add `[service.peak]` and a `capacity` to every backend";
        lint.about_service(Kind::UnknownLoad, service, span, message, help);
    }
}
