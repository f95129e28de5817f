//! What is left of a weight after commands, health and reachability.

use crate::control::api::BackendState;
use crate::health::Health;
use crate::model::Weight;
use crate::neighbor::Reachability;

/// Everything that decides whether a backend takes new flows.
#[derive(Debug, Clone)]
pub struct Standing {
    /// In force: the file's, or the one set by command.
    pub weight: Weight,
    pub drained: bool,
    pub health: Health,
    pub reachability: Reachability,
    /// Why it has to wait although nothing else is against it.
    pub held_back: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub weight: Weight,
    pub state: BackendState,
    /// Why it takes no new flows.
    pub reason: Option<String>,
}

/// The operator's will comes first, then health, then whether packets could get there at all.
pub fn effective(standing: &Standing) -> Effective {
    let none = |state, reason: String| Effective { weight: Weight::ZERO, state, reason: Some(reason) };
    if standing.drained {
        return none(BackendState::Draining, "drained by command".to_owned());
    }
    if standing.weight.is_zero() {
        return none(BackendState::Disabled, "weight 0".to_owned());
    }
    match (standing.health, &standing.reachability) {
        (Health::Down, _) => none(BackendState::Down, "health check failed".to_owned()),
        (_, Reachability::Pending) => none(BackendState::Unknown, standing.reachability.to_string()),
        (Health::Unknown, Reachability::Resolved(_)) => none(BackendState::Unknown, "not yet probed".to_owned()),
        (Health::Up, Reachability::Resolved(_)) => match &standing.held_back {
            Some(reason) => none(BackendState::Unknown, reason.clone()),
            None => Effective { weight: standing.weight, state: BackendState::Up, reason: None },
        },
        (_, unreachable) => none(BackendState::Down, unreachable.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbor::NextHop;

    fn standing(weight: u32, drained: bool, health: Health, resolved: bool) -> Standing {
        let reachability = if resolved { Reachability::Resolved(NextHop::example()) } else { Reachability::NoRoute };
        Standing { weight: Weight::new(weight).unwrap(), drained, health, reachability, held_back: None }
    }

    #[test]
    fn only_a_healthy_reachable_undrained_backend_takes_flows() {
        let cases = [
            (standing(5, false, Health::Up, true), BackendState::Up, 5),
            (standing(5, true, Health::Up, true), BackendState::Draining, 0),
            (standing(0, false, Health::Up, true), BackendState::Disabled, 0),
            (standing(5, false, Health::Down, true), BackendState::Down, 0),
            (standing(5, false, Health::Unknown, true), BackendState::Unknown, 0),
            (standing(5, false, Health::Up, false), BackendState::Down, 0),
            (
                Standing { held_back: Some("new".to_owned()), ..standing(5, false, Health::Up, true) },
                BackendState::Unknown,
                0,
            ),
        ];
        for (standing, state, weight) in cases {
            let effective = effective(&standing);
            assert_eq!((effective.state, effective.weight.get()), (state, weight), "{standing:?}");
            assert_eq!(effective.reason.is_some(), weight == 0);
        }
    }
}
