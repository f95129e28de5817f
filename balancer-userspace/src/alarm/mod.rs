//! Alarms: what can be wrong, what is wrong now, and how people hear of it.

mod active;
pub mod catalogue;
mod message;
mod outbox;
mod program;
mod webhook;

pub use active::{Alarm, Alarms, Raised, Subject};
pub use catalogue::{CATALOGUE, Definition, Severity, definition};
pub use message::Sender;
pub use webhook::{Delivery, Webhooks};
