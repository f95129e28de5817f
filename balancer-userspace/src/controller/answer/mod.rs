//! What is said about it all. Reads only.

pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod in_force;
pub(crate) mod publish;
pub(crate) mod ready;
pub(crate) mod rehearse;
pub(crate) mod sample;
pub(crate) mod status;
pub(crate) mod verify;
