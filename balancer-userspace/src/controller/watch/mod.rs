//! Whether what should run, what runs and what came agree; alarms, drills, and the record of the traffic.

pub(crate) mod alarms;
pub(crate) mod apart;
pub(crate) mod checks;
pub(crate) mod compare;
pub(crate) mod counters;
pub(crate) mod counts;
pub(crate) mod drill;
pub(crate) mod findings;
pub(crate) mod name;
pub(crate) mod observer;
pub(crate) mod shares;
pub(crate) mod traffic;

use self::alarms::Watchtower;
use self::compare::Drift;
use self::counts::Layout;
use self::drill::DrillRun;
use self::observer::Observer;
use self::shares::ShareGaps;
use self::traffic::Profile;
use crate::controller::answer::published::Publishing;

pub(crate) struct Agreement {
    pub(crate) drift: Drift,
    pub(crate) watchtower: Watchtower,
    pub(crate) observer: Observer,
    pub(crate) shares: ShareGaps,
    pub(crate) layout: Layout,
    pub(crate) publishing: Publishing,
    pub(crate) profile: Profile,
    pub(crate) drilling: Option<DrillRun>,
}
