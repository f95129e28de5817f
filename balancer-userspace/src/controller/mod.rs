//! The one task that owns what runs. Everything else sends it commands.

pub mod handle;
