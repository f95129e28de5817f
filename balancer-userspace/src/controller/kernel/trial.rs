//! A change of tables is tried before it is made: in a shadow of the program and its maps, packets of slots of each backend,
//! of those that move and of those that stay, must go to the very backend that was planned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use balancer_common::layout::ServiceEntry;
use balancer_common::slot::{BackendIndex, NO_BACKEND};

use crate::controller::state::State;
use crate::dataplane::{Changes, Image, Shadow, XDP_REDIRECT, XDP_TX};
use crate::model::{Service, ServiceName};
use crate::opening::Opening;
use crate::plan::{ServicePlan, slot_of};

/// How many packets a change may cost: of a config file, some tens of milliseconds; of a command, a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) packets: usize,
}

impl Trial {
    pub(crate) const FILE: Self = Self { packets: 8_192 };
    pub(crate) const COMMAND: Self = Self { packets: 512 };
}

/// A second instance of the program, in which changes are tried.
#[derive(Default)]
pub(crate) struct Rehearsal {
    /// Loaded when it is first needed.
    shadow: Option<Shadow>,
    /// Once is enough where it can't be loaded, until a change needs it.
    tried: bool,
}

impl State {
    /// Has the shadow there before somebody waits for it.
    pub(crate) fn keep_shadow(&mut self) {
        if self.kernel.rehearsal.shadow.is_none() && !std::mem::replace(&mut self.kernel.rehearsal.tried, true) {
            match self.kernel.plane.shadow() {
                Ok(shadow) => self.kernel.rehearsal.shadow = Some(shadow),
                Err(error) => log::warn!("changes can't be tried before they are made: {error:#}"),
            }
        }
    }

    /// Tries the tables that are to be published.
    ///
    /// # Errors
    /// The first service whose packets would not go where they should; nothing was changed.
    pub(crate) fn try_tables(
        &mut self,
        trial: Trial,
        plans: &[(ServiceName, ServicePlan)],
        changes: &Changes,
    ) -> Result<()> {
        let tables = &changes.publish;
        let places: BTreeSet<u32> = tables.iter().map(|(place, _)| *place).collect();
        let tried: Vec<&(ServiceName, ServicePlan)> =
            plans.iter().filter(|(_, plan)| places.contains(&plan.entry.table)).collect();
        if tried.is_empty() {
            return Ok(());
        }
        let mut image = Image::default();
        for (_, plan) in &tried {
            plan.add_lookups(&mut image);
            plan.add_backends(&mut image);
        }
        image.sort_ranges();
        let mut shadow = match self.kernel.rehearsal.shadow.take() {
            Some(shadow) => shadow,
            None => match self.kernel.plane.shadow() {
                Ok(shadow) => shadow,
                // Whoever shifts load in a hurry is not held up by it.
                Err(error) if trial == Trial::COMMAND => {
                    log::warn!("not tried before it is made: {error:#}");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        shadow.prepare(image, tables)?;
        let moved: HashMap<u32, &[u32]> =
            changes.opened.iter().map(|opened| (opened.number, opened.slots.as_slice())).collect();
        let each = trial.packets / tried.len();
        let outcome = tried.iter().try_for_each(|(name, plan)| {
            let Some(service) = self.service(name) else { return Ok(()) };
            let indices: Vec<BackendIndex> = plan.weighted.iter().map(|weighted| weighted.index).collect();
            let before = shadow.packets_of(&indices)?;
            let mut wanted: BTreeMap<BackendIndex, u64> = BTreeMap::new();
            let owners = plan.owners();
            let moved = moved.get(&u32::from(plan.entry.number)).copied().unwrap_or_default();
            let flows = chosen(service, &plan.entry, &Kinds::of(&owners, moved), each);
            for flow in flows {
                let owner = owners[flow.slot as usize];
                let answer = shadow.send(&flow.frame)?;
                let goes = matches!(answer, XDP_TX | XDP_REDIRECT);
                ensure!(
                    goes == (owner != NO_BACKEND),
                    "tried before the change, a packet of slot {} of {name} {}",
                    flow.slot,
                    if goes { "was sent to a backend, but none takes flows" } else { "was not sent to a backend" }
                );
                *wanted.entry(owner).or_default() += u64::from(goes);
            }
            let after = shadow.packets_of(&indices)?;
            for weighted in &plan.weighted {
                let at = &weighted.index;
                let got = after.get(at).copied().unwrap_or(0) - before.get(at).copied().unwrap_or(0);
                let should = wanted.get(at).copied().unwrap_or(0);
                ensure!(
                    got == should,
                    "tried before the change, {name}/{} got {got} packets instead of {should}: the table is not what was planned",
                    weighted.name
                );
            }
            Ok(())
        });
        self.kernel.rehearsal.shadow = Some(shadow);
        outcome
    }
}

/// The first packet of a flow, and the slot that it is of.
pub(crate) struct Trying {
    pub(crate) slot: u32,
    pub(crate) frame: Vec<u8>,
}

/// What slots are like to a trial: who owns each, and whether it has just moved there. Each kind is tried.
struct Kinds<'a> {
    owners: &'a [BackendIndex],
    moved: Vec<bool>,
    /// How many slots are of a kind.
    slots: HashMap<(BackendIndex, bool), u32>,
}

impl<'a> Kinds<'a> {
    fn of(owners: &'a [BackendIndex], moved: &[u32]) -> Self {
        let mut kinds = Self { owners, moved: vec![false; owners.len()], slots: HashMap::new() };
        for slot in moved {
            if let Some(there) = kinds.moved.get_mut(*slot as usize) {
                *there = true;
            }
        }
        for slot in owners.iter().copied().zip(kinds.moved.iter().copied()) {
            *kinds.slots.entry(slot).or_default() += 1;
        }
        kinds
    }

    fn kind(&self, slot: u32) -> (BackendIndex, bool) {
        (self.owners[slot as usize], self.moved[slot as usize])
    }
}

/// Slots of each kind that are tried, also where that makes more packets than were asked for.
const OF_A_KIND: u32 = 3;
/// Flows that are looked through for those of rare kinds, of as many as the table has slots.
const LOOKED_THROUGH: u32 = 3;

/// First flows of different slots, some of each kind of slot, then others, `most` in all.
fn chosen(service: &Service, entry: &ServiceEntry, kinds: &Kinds<'_>, most: usize) -> Vec<Trying> {
    let mut missing: HashMap<_, u32> =
        kinds.slots.iter().map(|(kind, slots)| (*kind, (*slots).min(OF_A_KIND))).collect();
    let mut flows = Vec::new();
    let mut seen = vec![false; entry.table_size as usize];
    let mut take = |flows: &mut Vec<Trying>, source: SocketAddr, slot: u32| {
        if !std::mem::replace(&mut seen[slot as usize], true) {
            let opening = Opening::new(service.protocol, source, SocketAddr::new(service.address, service.port));
            flows.push(Trying { slot, frame: opening.frame() });
            return true;
        }
        false
    };
    for number in 0..entry.table_size.saturating_mul(LOOKED_THROUGH) {
        let room = flows.len() + missing.len() * OF_A_KIND as usize <= most;
        if missing.is_empty() && !room {
            break;
        }
        let source = client(service.address.is_ipv4(), number);
        let slot = slot_of(entry, source, service.port);
        let kind = kinds.kind(slot);
        let is_missing = missing.contains_key(&kind);
        if (is_missing || room) && take(&mut flows, source, slot) && is_missing {
            let left = missing.entry(kind).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                missing.remove(&kind);
            }
        }
    }
    flows
}

/// Flows of as many different slots as there are, `most` at most.
pub(crate) fn flows(service: &Service, entry: &ServiceEntry, most: usize) -> Vec<Trying> {
    let size = entry.table_size;
    let most = most.min(size as usize);
    let mut seen = vec![false; size as usize];
    let mut flows = Vec::with_capacity(most);
    // After so many flows hardly a slot is left; what is left is no reason to search on.
    for number in 0..size.saturating_mul(24) {
        if flows.len() == most {
            break;
        }
        let source = client(service.address.is_ipv4(), number);
        let slot = slot_of(entry, source, service.port);
        if !std::mem::replace(&mut seen[slot as usize], true) {
            let opening = Opening::new(service.protocol, source, SocketAddr::new(service.address, service.port));
            flows.push(Trying { slot, frame: opening.frame() });
        }
    }
    flows
}

/// A client of 11.0.0.0/8 or 2001:db8:b::/96.
fn client(v4: bool, number: u32) -> SocketAddr {
    let host = number & 0x00ff_ffff;
    let address: IpAddr = if v4 {
        Ipv4Addr::from_bits(11 << 24 | host).into()
    } else {
        Ipv6Addr::from_bits(0x2001_0db8_000b << 80 | u128::from(host)).into()
    };
    SocketAddr::new(address, 1024 + (number % 60_000) as u16)
}
