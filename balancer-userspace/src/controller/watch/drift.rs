//! What the comparison of the kernel with the plan knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::control::api::{Gap, Layer};
use crate::controller::watch::counters;
use crate::dataplane::TableCounts;
use crate::drift::{Recorder, Watch};
use crate::model::ServiceName;
use crate::moment::Moment;

/// What the comparison knows.
pub(crate) struct Drift {
    pub(crate) next: Instant,
    /// As last found, what was put right included.
    pub(crate) gaps: Vec<Gap>,
    /// Tables by place that hold something else than was written, and what: nothing where none can be read.
    pub(crate) astray: BTreeMap<u32, Option<TableCounts>>,
    /// Why nothing could be compared.
    pub(crate) failed: Option<String>,
    pub(crate) counted: Counted,
    pub(crate) recorder: Recorder,
    pub(crate) next_count: Instant,
    pub(crate) watches: BTreeMap<ServiceName, Watch>,
    pub(crate) counters: counters::Counted,
}

/// For metrics; they only grow, but for the time and the duration of the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) cycles: u64,
    pub(crate) at: Option<Moment>,
    pub(crate) took: Duration,
    pub(crate) gaps: BTreeMap<Layer, u64>,
    pub(crate) healed: u64,
}

impl Default for Drift {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            next: now,
            gaps: Vec::new(),
            astray: BTreeMap::new(),
            failed: None,
            counted: Counted::default(),
            recorder: Recorder::default(),
            next_count: now,
            watches: BTreeMap::new(),
            counters: counters::Counted::default(),
        }
    }
}
