//! A change that a key asks for, and what it does to the shares.

use std::fmt;

use crate::control::api::{BackendState, ServiceStatus};
use crate::model::{BackendId, BackendName};
use crate::plan::share;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Drain(BackendId),
    Undrain(BackendId),
    Weight(BackendId, u32),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(id) => write!(f, "drain {id}"),
            Self::Undrain(id) => write!(f, "undrain {id}"),
            Self::Weight(id, weight) => write!(f, "weight {id} {weight}"),
        }
    }
}

/// A backend with its part of the table before and after.
pub(super) type Row = (BackendName, Option<f64>, Option<f64>);

impl Change {
    pub fn id(&self) -> &BackendId {
        match self {
            Self::Drain(id) | Self::Undrain(id) | Self::Weight(id, _) => id,
        }
    }

    /// Shares of the weights in force before, and of those that this would leave.
    pub fn shares(&self, service: &ServiceStatus) -> Vec<Row> {
        let weights: Vec<u64> = service.backends.iter().map(|backend| backend.effective_weight.into()).collect();
        let after: Vec<u64> = service
            .backends
            .iter()
            .map(|backend| {
                let alive = !matches!(backend.state, BackendState::Down | BackendState::Unknown);
                match self {
                    _ if backend.name != self.id().backend => backend.effective_weight.into(),
                    Self::Drain(_) => 0,
                    Self::Undrain(_) => {
                        if alive {
                            backend.weight.into()
                        } else {
                            0
                        }
                    }
                    // A drain stays in force over a weight.
                    Self::Weight(..) if backend.state == BackendState::Draining => 0,
                    Self::Weight(_, weight) => {
                        if alive {
                            u64::from(*weight)
                        } else {
                            0
                        }
                    }
                }
            })
            .collect();
        let (before_all, after_all) = (weights.iter().sum(), after.iter().sum());
        let rows = service.backends.iter().zip(weights).zip(after);
        rows.map(|((backend, before), after)| {
            (backend.name.clone(), share(before, before_all), share(after, after_all))
        })
        .collect()
    }
}
