//! Why the answer is no.

use crate::spec::Diagnostics;

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The request names something that isn't there.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be done as asked.
    #[error("{0}")]
    Invalid(String),
    /// It should have worked; the previous state stays.
    #[error("{0}")]
    Failed(String),
    /// A config that can't be in force.
    #[error("{}", .0.said)]
    Config(Box<Unfit>),
    #[error("the controller is stopping")]
    Stopping,
}

impl Refusal {
    /// What a failure means for whoever asked.
    pub(crate) fn meaning(self, meaning: &str) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{meaning}: {why}")),
            other => other,
        }
    }

    /// The same, and what else is wrong.
    pub(crate) fn but(self, more: &str) -> Self {
        match self {
            Self::Failed(why) | Self::Invalid(why) => Self::Failed(format!("{why}; {more}")),
            other => other,
        }
    }
}

/// What is wrong with a config.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfit {
    /// For people.
    pub said: String,
    pub found: Diagnostics,
}

impl From<Diagnostics> for Refusal {
    fn from(found: Diagnostics) -> Self {
        Self::Config(Box::new(Unfit { said: found.to_string(), found }))
    }
}
