//! From one table to the next without moving an established flow: which slots open, when they close, and which flows need
//! not be remembered any longer. Times are in the units of [`balancer_common::clock`].

use balancer_common::clock::{UNIT_MS, since};
use balancer_common::layout::{Activity, FlowEntry};
use balancer_common::slot::{BackendIndex, NO_BACKEND, Slot};

/// A flow of which only the packet that began it was seen is forgotten after this long (about 15 s): handshakes take no
/// longer, and floods never go on.
const HALF_OPEN: u32 = 14;

/// A table that follows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub slots: Vec<Slot>,
    /// Open slots whose owner is another than before.
    pub moved: Vec<u32>,
}

/// The table with these owners after `before`. Where `keeps`, slots whose owner changes open, and keep the settled owner
/// they have; flows of backends that are not `alive` are lost in any case.
pub fn step(
    before: Option<&[Slot]>,
    owners: &[BackendIndex],
    keeps: bool,
    alive: impl Fn(BackendIndex) -> bool,
) -> Step {
    let mut step = Step { slots: Vec::with_capacity(owners.len()), moved: Vec::new() };
    for (place, owner) in owners.iter().enumerate() {
        let before = before.and_then(|slots| slots.get(place)).filter(|_| keeps);
        let slot = before.map_or(Slot::closed(*owner), |before| follow(*before, *owner, &alive));
        if slot.is_open() && before.is_some_and(|before| before.owner() != *owner) {
            step.moved.push(place as u32);
        }
        step.slots.push(slot);
    }
    step
}

fn follow(before: Slot, owner: BackendIndex, alive: &impl Fn(BackendIndex) -> bool) -> Slot {
    let settled = if before.is_open() { before.settled() } else { before.owner() };
    let lives = settled != NO_BACKEND && alive(settled);
    match (before.is_open(), lives) {
        (false, false) => Slot::closed(owner),
        (false, true) if settled == owner => Slot::closed(owner),
        // Flows that began since it opened are in the flow table, whoever was the settled owner.
        (true, false) => Slot::open(owner, owner),
        (_, true) => Slot::open(owner, settled),
    }
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub quiet: u32,
    pub deadline: u32,
}

impl Patience {
    pub fn of(connections: &crate::model::Connections) -> Self {
        // The present unit has begun already.
        let units = |time: std::time::Duration| {
            u32::try_from(time.as_millis().div_ceil(u128::from(UNIT_MS)) + 1).unwrap_or(u32::MAX / 4)
        };
        Self { quiet: units(connections.quiet), deadline: units(connections.drain_deadline) }
    }

    fn is_over(&self, activity: Activity, now: u32) -> bool {
        since(now, activity.opened()) >= self.deadline
            || (since(now, activity.strayed()) >= self.quiet && since(now, activity.opened()) >= self.quiet)
    }
}

/// Open slots that close now, as they are then, and how many stay open.
pub fn closing(slots: &[Slot], activity: &[Activity], now: u32, patience: &Patience) -> Vec<(u32, Slot)> {
    let open = slots.iter().enumerate().filter(|(_, slot)| slot.is_open());
    // Without a record nobody could say how quiet it is.
    let over = |place: usize| activity.get(place).is_none_or(|activity| patience.is_over(*activity, now));
    open.filter(|(place, _)| over(*place)).map(|(place, slot)| (place as u32, Slot::closed(slot.owner()))).collect()
}

/// Whether nothing was sent by the former mapping for long enough, or for too long.
pub fn former_is_over(activity: &[Activity], since_when: u32, now: u32, patience: &Patience) -> bool {
    let age = since(now, since_when);
    let quiet = |activity: &Activity| since(now, activity.strayed()) >= patience.quiet;
    age >= patience.deadline || (age >= patience.quiet && activity.iter().all(quiet))
}

/// What decides whether a flow is still to be remembered.
#[derive(Debug, Clone, Copy)]
pub struct Keeping<'a> {
    pub slots: &'a [Slot],
    pub era: u8,
    /// The service has a former mapping.
    pub former: bool,
    /// Every flow of the service is remembered, whatever its slot.
    pub all: bool,
    pub patience: Patience,
    pub now: u32,
}

impl Keeping<'_> {
    pub fn keeps(&self, flow: &FlowEntry, alive: impl Fn(BackendIndex) -> bool) -> bool {
        let age = flow.idle(self.now);
        if !alive(flow.backend()) || age >= self.patience.quiet || (!flow.is_confirmed() && age >= HALF_OPEN) {
            return false;
        }
        if self.all || self.former {
            return true;
        }
        flow.era() == self.era && self.slots.get(flow.slot() as usize).is_some_and(|slot| slot.is_open())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { quiet: 10, deadline: 100 };

    #[test]
    fn a_slot_keeps_the_oldest_owner_that_lives() {
        let live = |_| true;
        let first = step(Some(&[Slot::closed(1)]), &[2], true, live);
        assert_eq!((first.slots[0], first.moved), (Slot::open(2, 1), vec![0]));
        let second = step(Some(&first.slots), &[3], true, live);
        assert_eq!(second.slots, [Slot::open(3, 1)]);
        let back = step(Some(&second.slots), &[1], true, live);
        assert_eq!(back.slots, [Slot::open(1, 1)], "flows that began in between are in the flow table");
        let same = step(Some(&second.slots), &[3], true, live);
        assert_eq!((same.slots, same.moved), (second.slots.clone(), vec![]));
        let dead = step(Some(&second.slots), &[3], true, |index| index != 1);
        assert_eq!(dead.slots, [Slot::open(3, 3)]);
        assert_eq!(step(Some(&[Slot::closed(1)]), &[3], true, |index| index != 1).slots, [Slot::closed(3)]);
        assert_eq!(step(Some(&[Slot::closed(1)]), &[3], false, live).slots, [Slot::closed(3)]);
        assert_eq!(step(Some(&[Slot::closed(0)]), &[3], true, live).slots, [Slot::closed(3)], "nobody had flows");
        assert_eq!(step(Some(&[Slot::closed(3)]), &[0], true, live).slots, [Slot::open(0, 3)], "a drain");
    }

    #[test]
    fn slots_close_when_they_are_quiet_and_at_the_deadline() {
        let slots = [Slot::open(2, 1), Slot::open(2, 1), Slot::open(2, 1), Slot::closed(3)];
        let activity = [Activity::new(95, 50), Activity::new(80, 50), Activity::new(99, 0), Activity::new(0, 0)];
        let closed = closing(&slots, &activity, 100, &PATIENCE);
        assert_eq!(closed, [(1, Slot::closed(2)), (2, Slot::closed(2))]);
        assert!(closing(&slots[..1], &[Activity::new(0, 95)], 100, &PATIENCE).is_empty(), "it has just opened");
    }

    #[test]
    fn flows_are_kept_while_they_are_needed() {
        let slots = [Slot::open(2, 1), Slot::closed(2)];
        let keeping = Keeping { slots: &slots, era: 1, former: false, all: false, patience: PATIENCE, now: 100 };
        let flow = |slot, era, seen| FlowEntry::begun(2, slot, era, seen).confirmed();
        assert!(keeping.keeps(&flow(0, 1, 95), |_| true));
        assert!(!keeping.keeps(&flow(0, 1, 95), |_| false), "its backend died");
        assert!(!keeping.keeps(&flow(1, 1, 95), |_| true), "its slot closed");
        assert!(!keeping.keeps(&flow(0, 1, 80), |_| true), "silent");
        assert!(!keeping.keeps(&flow(0, 0, 95), |_| true), "of a mapping that is gone");
        assert!(Keeping { former: true, ..keeping }.keeps(&flow(1, 0, 95), |_| true));
    }

    proptest! {
        #[test]
        fn every_slot_has_its_new_owner_and_no_dead_settled_one(
            before in proptest::collection::vec((0u16..5, 0u16..5, any::<bool>()), 1..50),
            dead in 1u16..5,
            seed: u64,
        ) {
            let slot = |(owner, settled, open): &(u16, u16, bool)| {
                if *open { Slot::open(*owner, *settled) } else { Slot::closed(*owner) }
            };
            let slots: Vec<Slot> = before.iter().map(slot).collect();
            let owners: Vec<u16> = (0..slots.len()).map(|i| ((seed >> (i % 32)) % 5) as u16).collect();
            let step = step(Some(&slots), &owners, true, |index| index != dead);
            for ((slot, owner), before) in step.slots.iter().zip(&owners).zip(&slots) {
                prop_assert_eq!(slot.owner(), *owner);
                prop_assert!(slot.settled() != dead || slot.settled() == *owner);
                prop_assert!(!before.is_open() || slot.is_open(), "only time closes a slot with flows in the table");
            }
        }
    }
}
