//! What people ask for comes into force, and is taken back.

pub(crate) mod back;
pub(crate) mod commands;
pub(crate) mod forward;
pub(crate) mod gate;
pub(crate) mod judging;
pub(crate) mod preview;
pub(crate) mod probation;
pub(crate) mod record;
pub(crate) mod rollback;
pub(crate) mod shares;
pub(crate) mod transaction;
