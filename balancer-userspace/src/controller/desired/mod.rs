//! What should run: the config file, what commands set over it, the history, and a change on probation.

pub(crate) mod empty;
pub(crate) mod file;
pub(crate) mod judged;
pub(crate) mod judging;
pub(crate) mod overrides;
pub(crate) mod preview;
pub(crate) mod probation;
pub(crate) mod settling;
mod way;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::judged::Judged;
use self::probation::Probation;
use crate::history::History;
use crate::model::Config;
use crate::moment::Moment;
use crate::state::Overrides;

pub(crate) struct Desired {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    /// The text that `config` was read from.
    pub(crate) text: String,
    /// SHA-256 of the config file's content when it was last read or written here.
    pub(crate) seen: String,
    /// What lint finds in it, and in what commands set over it.
    pub(crate) judged: Judged,
    pub(crate) overrides: Overrides,
    pub(crate) history: History,
    /// A change on probation.
    pub(crate) probation: Option<Probation>,
    /// How applies ended, by result.
    pub(crate) applies: BTreeMap<&'static str, u64>,
    pub(crate) applied_at: Moment,
    /// Why the last reload was refused.
    pub(crate) refused: Option<String>,
}
