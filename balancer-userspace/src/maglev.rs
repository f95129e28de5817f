//! Weighted Maglev tables (Eisenbud et al., NSDI 2016), exact to one slot.

use crate::model::{BackendName, TableSize, Weight};

/// The owner of every slot, as an index into `backends`; empty when every weight is 0.
pub fn build(_size: TableSize, _seed: u64, _backends: &[(BackendName, Weight)]) -> Vec<u16> {
    Vec::new()
}
