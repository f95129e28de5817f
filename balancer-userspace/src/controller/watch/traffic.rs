//! The record of the traffic.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::model::Node;
use crate::profile::{Day, Recorder, Store};

pub(crate) struct Profile {
    pub(crate) recorder: Recorder,
    pub(crate) store: Store,
    /// The day, and how many of them are kept, when older ones were last removed.
    pub(crate) kept: Option<(Day, u32)>,
    /// One rehearsal at a time: each has all processors.
    pub(crate) rehearsals: Arc<Semaphore>,
}

impl Profile {
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            recorder: Recorder::default(),
            store: Store::new(&node.state_dir),
            kept: None,
            rehearsals: Arc::new(Semaphore::new(1)),
        }
    }
}
