//! What stands in two places should not differ: a server's capacity and failure domain, a site's services.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{Kind, Lint};
use crate::model::Service;

/// One server in several services.
pub(super) fn servers(lint: &Lint<'_>) {
    for server in &lint.prediction.servers {
        let of = |(service, backend): (usize, usize)| &lint.models[service].backends[backend];
        let first = server.members[0];
        let (name, capacity, domain) = (&of(first).name, of(first).capacity, &of(first).failure_domain);
        for member in &server.members[1..] {
            let other = of(*member);
            let read = &lint.places[member.0].backends[member.1];
            let (what, span) = if other.capacity != capacity {
                let place = read.capacity.as_ref().map(|capacity| &capacity.span);
                ("another `capacity`", place.unwrap_or(&read.span))
            } else if other.failure_domain != *domain {
                let place = read.failure_domain.as_ref().map(|domain| &domain.span);
                ("another `failure_domain`", place.unwrap_or(&read.span))
            } else if other.name != *name {
                ("another name", &read.name.span)
            } else {
                continue;
            };
            // Two backends of one service are said already.
            if member.0 == first.0 {
                continue;
            }
            let message = format!("{} has {what} here than as {}", server.address, lint.name(first));
            let help = "a server is the same in every service; make both alike".to_owned();
            lint.about_backend(Kind::Unequal, *member, span.clone(), message, help);
        }
    }
}

/// Services on one address with the same servers, such as HTTP and HTTPS of a site, where weights differ.
pub(super) fn sites(lint: &Lint<'_>) {
    let mut first: HashMap<(IpAddr, Vec<IpAddr>), usize> = HashMap::new();
    for (number, (service, read)) in lint.all() {
        let weights = weights(service);
        if weights.len() < 2 {
            continue;
        }
        let before = *first.entry((service.address, weights.keys().copied().collect())).or_insert(number);
        let other = &lint.models[before];
        if before == number || self::weights(other) == weights {
            continue;
        }
        let differs = |(at, _): &(usize, &crate::model::Backend)| {
            self::weights(other).get(&service.backends[*at].address) != weights.get(&service.backends[*at].address)
        };
        let Some((at, backend)) = service.backends.iter().enumerate().find(differs) else { continue };
        let place = &read.backends[at];
        let span = place.weight_span.clone().unwrap_or_else(|| place.span.clone());
        let message = format!(
            "{} and {} are one address with the same servers, but {} has another weight here",
            service.name, other.name, backend.name
        );
        lint.about_service(Kind::Unequal, service, span, message, "make the weights of both alike");
    }
}

fn weights(service: &Service) -> BTreeMap<IpAddr, u32> {
    service.backends.iter().map(|backend| (backend.address, backend.weight.get())).collect()
}
