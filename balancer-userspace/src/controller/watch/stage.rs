//! Where the fault of a drill is: a service that no client has, in a shadow of the program.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer_common::slot::{NO_BACKEND, Slot};

use crate::control::api::Fault;
use crate::controller::kernel::samples::flows;
use crate::dataplane::{Difference, Expected, Image, Shadow};
use crate::drift::{Sample, judge};
use crate::model::{Node, Service};
use crate::plan::{Numbering, Placed, ServicePlan, plan_service};
use crate::spec;

/// New flows of a drill of skew.
const FLOWS: usize = 20_000;
/// How many of them it takes to make the first backend's half as many again.
const MORE: f64 = 0.5;
/// As of new flows that came within this time.
const WINDOW: Duration = Duration::from_secs(10);
/// On an address for documentation (RFC 5737) that reaches no interface: the shadow is attached to none.
const CONFIG: &str = "[[interface]]\nname = \"lo\"\n[[service]]\nname = \"drill\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\n\
    port = 9\nforward = \"l2\"\n[service.health]\nkind = \"none\"\n[[service.backend]]\nname = \"one\"\naddress = \"192.0.2.2\"\n\
    [[service.backend]]\nname = \"two\"\naddress = \"192.0.2.3\"\n[[service.backend]]\nname = \"three\"\naddress = \"192.0.2.4\"\n";

/// Where the fault is: a service in the shadow.
pub(crate) struct Stage {
    shadow: Shadow,
    service: Service,
    plan: ServicePlan,
    image: Image,
}

impl Stage {
    /// A service in a shadow of its own.
    pub(crate) fn new(mut shadow: Shadow, node: &Node) -> Result<Self> {
        let config = spec::parse("the drill's config", CONFIG).context("the drill's config")?;
        let service = config.services.into_iter().next().context("the drill's config has no service")?;
        let next_hop = crate::neighbor::NextHop {
            interface: "lo".to_owned(),
            ifindex: 1,
            mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            mtu: 1500,
            vlan: 0,
            via: [192, 0, 2, 2].into(),
        };
        let placed = |(place, backend): (usize, &crate::model::Backend)| Placed {
            index: place as u16 + 1,
            weight: backend.weight,
            next_hop: Some(next_hop.clone()),
            dead: false,
        };
        let placed: Vec<Placed> = service.backends.iter().enumerate().map(placed).collect();
        let plan = plan_service(&service, &placed, &Numbering::default(), node);
        let mut image = Image::default();
        plan.add_lookups(&mut image);
        plan.add_backends(&mut image);
        image.sort_ranges();
        shadow.publish(image.clone(), plan.entry.table, &plan.settled_slots())?;
        let stage = Self { shadow, service, plan, image };
        ensure!(stage.differences()?.is_empty(), "the shadow is not as it was written before any fault");
        Ok(stage)
    }

    fn expected(&self) -> Expected<'_> {
        Expected { image: &self.image, rates: BTreeMap::new(), access: None, capturing: false }
    }

    pub(crate) fn differences(&self) -> Result<Vec<Difference>> {
        self.shadow.plane().differences(&self.expected())
    }

    /// Brings the fault in, and has it found. Answers what was found, in words.
    pub(crate) fn fail(&mut self, fault: Fault) -> Result<String> {
        match fault {
            Fault::Table => {
                self.shadow.overwrite_slot(self.plan.entry.table, 0, Slot::closed(NO_BACKEND))?;
                let found = self.differences()?;
                ensure!(
                    found == [Difference::Slots { place: self.plan.entry.table }],
                    "a slot was overwritten, and {found:?} was found"
                );
                let slots = self.shadow.plane().slot_differences(self.plan.entry.table, || self.plan.settled_slots());
                let [(slot, ..)] = slots[..] else { anyhow::bail!("{} slots differ instead of one", slots.len()) };
                Ok(format!("slot {slot} of drill is not the one that was planned"))
            }
            Fault::Backend => {
                self.shadow.overwrite_backend(1)?;
                let found = self.differences()?;
                ensure!(
                    matches!(found[..], [Difference::Backend { index: 1, found: None, .. }]),
                    "a backend's entry was overwritten, and {found:?} was found"
                );
                Ok("the entry of drill/one is not the one that was written".to_owned())
            }
            Fault::Skew => self.skew(),
        }
    }

    /// Real new flows through the shadow's program, counted by it; of the first backend's, half come twice.
    fn skew(&mut self) -> Result<String> {
        let owners = self.plan.owners();
        let mut extra = 0.0;
        for flow in flows(&self.service, &self.plan.entry, FLOWS) {
            self.shadow.send(&flow.frame)?;
            if owners[flow.slot as usize] == 1 {
                extra += MORE;
                if extra >= 1.0 {
                    extra -= 1.0;
                    self.shadow.send(&flow.frame)?;
                }
            }
        }
        let groups = self.shadow.plane().groups(3)?;
        let counts = crate::dataplane::TableCounts::of(&self.plan.settled_slots());
        let samples: Vec<Sample> = counts
            .groups
            .iter()
            .map(|(index, slots)| Sample { slots: *slots, flows: groups[usize::from(*index)] })
            .collect();
        let findings = judge(&samples, WINDOW);
        let skewed: Vec<bool> = findings.iter().map(|finding| finding.skewed).collect();
        ensure!(skewed == [true, false, false], "of one, two and three, {skewed:?} were found to be skewed");
        Ok(format!("drill/one gets {:+.0} % new flows at its slots", findings[0].effect * 100.0))
    }

    pub(crate) fn put_right(&mut self, fault: Fault) -> Result<()> {
        if fault == Fault::Skew {
            return Ok(());
        }
        let differences = self.differences()?;
        let place = self.plan.entry.table;
        let slots = self.shadow.plane().slot_differences(place, || self.plan.settled_slots());
        let expected = Expected { image: &self.image, rates: BTreeMap::new(), access: None, capturing: false };
        self.shadow.plane_mut().restore(&differences, &expected, &BTreeMap::from([(place, slots)]))?;
        let left = self.differences()?;
        ensure!(left.is_empty(), "it is still there: {left:?}");
        Ok(())
    }
}
