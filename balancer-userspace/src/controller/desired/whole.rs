//! What is to be in force: a config and what commands set over it.

use crate::model::Config;
use crate::spec::{Diagnostic, Written};
use crate::state::Overrides;

/// What is to be in force.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    Config(Box<Whole>),
    /// Of the same config.
    Overrides(Overrides),
}

/// A config, and what commands set over it.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pub(crate) config: Config,
    pub(crate) text: String,
    pub(crate) written: Written,
    /// What lint finds in the text alone.
    pub(crate) found: Vec<Diagnostic>,
    pub(crate) overrides: Overrides,
}
