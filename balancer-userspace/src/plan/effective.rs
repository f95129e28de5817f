//! What is left of a weight after commands, health and reachability.

use crate::control::api::BackendState;
use crate::health::Health;
use crate::health::removal::Fate;
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
    /// What was decided of it beside the others of its service.
    pub fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub weight: Weight,
    pub state: BackendState,
    /// Why it takes no new flows, or is in the table although its state speaks against it.
    pub reason: Option<String>,
}

/// Its own evidence first; then what was decided beside the others.
pub fn effective(standing: &Standing) -> Effective {
    let own = alone(standing);
    match (&standing.fate, own.state) {
        (Fate::Kept(why), BackendState::Down | BackendState::Unknown) if !standing.weight.is_zero() => {
            let reason = own.reason.map_or_else(|| format!("kept: {why}"), |own| format!("kept: {why} ({own})"));
            Effective { weight: standing.weight, state: own.state, reason: Some(reason) }
        }
        (Fate::Waits(why), BackendState::Up) => {
            Effective { weight: Weight::ZERO, state: BackendState::Down, reason: Some(why.clone()) }
        }
        _ => own,
    }
}

/// The operator's will comes first, then health, then whether packets could get there at all.
pub fn alone(standing: &Standing) -> Effective {
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
        Standing {
            weight: Weight::new(weight).unwrap(),
            drained,
            health,
            reachability,
            held_back: None,
            fate: Fate::Own,
        }
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

    #[test]
    fn who_is_kept_has_its_weight_and_its_state_and_who_waits_has_none() {
        let with = |fate: &Fate, standing: Standing| Standing { fate: fate.clone(), ..standing };
        let kept = Fate::Kept("all fail".to_owned());
        let waits = Fate::Waits("it flaps".to_owned());
        let said = |standing: Standing| {
            let Effective { weight, state, reason } = effective(&standing);
            (state, weight.get(), reason.unwrap_or_default())
        };
        let down = said(with(&kept, standing(5, false, Health::Down, true)));
        assert_eq!(down, (BackendState::Down, 5, "kept: all fail (health check failed)".to_owned()));
        let unknown = said(with(&kept, standing(5, false, Health::Unknown, true)));
        assert_eq!(unknown, (BackendState::Unknown, 5, "kept: all fail (not yet probed)".to_owned()));
        assert_eq!(said(with(&kept, standing(5, false, Health::Up, true))).1, 5);
        assert_eq!(said(with(&kept, standing(5, true, Health::Down, true))).1, 0, "drained");
        assert_eq!(said(with(&kept, standing(0, false, Health::Down, true))).1, 0, "weight 0");
        let flapping = said(with(&waits, standing(5, false, Health::Up, true)));
        assert_eq!(flapping, (BackendState::Down, 0, "it flaps".to_owned()));
    }
}
