//! A change of tables is tried before it is made: in a shadow of the program and its maps, a packet for each slot must go to
//! the very backend that was planned.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use balancer_common::layout::ServiceEntry;
use balancer_common::slot::{BackendIndex, NO_BACKEND};

use crate::controller::state::State;
use crate::dataplane::{Image, NewTable, Shadow, XDP_REDIRECT, XDP_TX};
use crate::model::{Service, ServiceName};
use crate::opening::Opening;
use crate::plan::{ServicePlan, slot_of};
use crate::service_manager;

/// How many packets a change may cost: of a config file, about a second; of a command, a hundredth of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) packets: usize,
}

impl Trial {
    /// All slots of a few services, a part of each of many.
    pub(crate) const FILE: Self = Self { packets: 400_000 };
    pub(crate) const COMMAND: Self = Self { packets: 4_096 };
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
        tables: &[(u32, NewTable)],
    ) -> Result<()> {
        let tried: Vec<&(ServiceName, ServicePlan)> =
            plans.iter().filter(|(_, plan)| tables.iter().any(|(place, _)| *place == plan.entry.table)).collect();
        if tried.is_empty() {
            return Ok(());
        }
        let mut image = Image::default();
        for (_, plan) in &tried {
            plan.add_lookups(&mut image);
            plan.add_backends(&mut image);
        }
        image.sort_ranges();
        let highest = tried.iter().flat_map(|(_, plan)| &plan.backends).map(|(index, _)| *index).max().unwrap_or(0);
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
        let each = (trial.packets / tried.len()).max(256);
        let outcome = tried.iter().try_for_each(|(name, plan)| {
            let Some(service) = self.desired.config.services.iter().find(|service| service.name == *name) else { return Ok(()) };
            service_manager::progress();
            let before = shadow.packets(highest)?;
            let mut wanted: BTreeMap<BackendIndex, u64> = BTreeMap::new();
            let owners = plan.owners();
            for flow in flows(service, &plan.entry, each) {
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
            let after = shadow.packets(highest)?;
            for weighted in &plan.weighted {
                let at = usize::from(weighted.index);
                let (got, should) = (after[at] - before[at], wanted.get(&weighted.index).copied().unwrap_or(0));
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
