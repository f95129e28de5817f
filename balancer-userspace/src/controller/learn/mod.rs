//! What the world says is taken in: links, ways, path MTUs, health, and who leaves the table.

pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod path_mtus;
pub(crate) mod removals;
pub(crate) mod ways;
