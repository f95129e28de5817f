//! What should run: the config file, what commands set over it, the history, and a change on probation.

pub(crate) mod file;
pub(crate) mod overrides;
pub(crate) mod preview;
pub(crate) mod probation;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use self::probation::Probation;
use crate::controller::transaction::Warned;
use crate::history::History;
use crate::model::Config;
use crate::state::Overrides;

pub(crate) struct Desired {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    /// The text that `config` was read from.
    pub(crate) text: String,
    /// SHA-256 of the config file's content when it was last read or written here.
    pub(crate) seen: String,
    /// Its warnings that nothing silences.
    pub(crate) warned: BTreeSet<Warned>,
    pub(crate) overrides: Overrides,
    pub(crate) history: History,
    /// A change on probation.
    pub(crate) probation: Option<Probation>,
    /// How applies ended, by result.
    pub(crate) applies: BTreeMap<&'static str, u64>,
    pub(crate) applied_at: SystemTime,
    /// Why the last reload was refused.
    pub(crate) refused: Option<String>,
}
