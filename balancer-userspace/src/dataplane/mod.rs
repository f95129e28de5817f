//! The kernel side as the controller sees it, and the only module that touches BPF.
//!
//! Everything is pinned below the pin directory: `maps/`, `tables/` (of each service its table, flow table and slot activity), `links/` (one an interface).
//! A controller that starts finds them, puts its program in the place of the one that runs, and goes on.

mod attach;
mod compare;
mod counters;
mod detach;
mod events;
mod flows;
mod image;
mod index;
mod inject;
mod kernel;
mod left;
mod load;
mod mapped;
mod pins;
mod published;
mod shadow;
mod syscall;
mod table;
mod write;

pub use attach::{AttachError, Attached};
pub use compare::{Difference, Expected, LinkState, SlotDifferences};
pub use counters::{CounterMaps, Counters};
pub use detach::{detach, detach_unattended};
pub use events::{Events, Told, Watched};
pub use image::{Changes, Image, IndexContent, Opened, TableState};
pub use inject::{ANSWERS, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
pub use kernel::KernelTables;
pub use left::{Left, left};
pub use load::{DataPlane, LoadError};
pub use pins::{Lock, Pins};
pub use published::Stamp;
pub use shadow::Shadow;
pub use table::{NewTable, TableCounts};
