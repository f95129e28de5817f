//! What is said about it all. Reads only.

pub(crate) mod doctor;
pub(crate) mod explain;
mod in_force;
pub mod published;
pub(crate) mod rehearse;
pub(crate) mod status;
pub(crate) mod verify;
