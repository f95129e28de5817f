//! A drill: a fault in the shadow of the program, on a service that no client has, followed through comparison, alarm, metric
//! and webhook to its end. Everything but the fault is what works in earnest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer_common::slot::{NO_BACKEND, Slot};

use crate::alarm::{Raised, Subject, catalogue};
use crate::control::api::{Drill, DrillStep, Fault};
use crate::controller::handle::Refusal;
use crate::controller::kernel::trial::{Rehearsal, flows};
use crate::controller::state::State;
use crate::controller::watch::Agreement;
use crate::dataplane::{Difference, Expected, Image, Shadow};
use crate::drift::{Sample, judge};
use crate::model::{Service, ServiceName};
use crate::plan::{Numbering, Placed, ServicePlan, plan_service};
use crate::{metrics, spec};

/// How long the alarm, and then its end, may take to get everywhere.
const PATIENCE: Duration = Duration::from_secs(20);
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

/// A drill under way, or over.
pub(crate) struct DrillRun {
    said: Drill,
    /// Gone once the fault is.
    stage: Option<Stage>,
    start: Instant,
    deadline: Instant,
}

/// Where the fault is: a service in the shadow.
struct Stage {
    shadow: Shadow,
    service: Service,
    plan: ServicePlan,
    image: Image,
}

impl DrillRun {
    /// Whether this is news.
    fn step(&mut self, what: String, detail: Option<String>) -> bool {
        if self.said.steps.iter().any(|step| step.what == what) {
            return false;
        }
        log::info!("drill {}: {what}", self.said.fault);
        self.said.steps.push(DrillStep { seconds: self.start.elapsed().as_secs_f64(), what, detail });
        true
    }
}

impl Agreement {
    pub(crate) fn drill(&self) -> Result<Drill, Refusal> {
        let none = || Refusal::NotFound("there was no drill; `balancer drill table` starts one".to_owned());
        self.drilling.as_ref().map(|drilling| drilling.said.clone()).ok_or_else(none)
    }
}

impl State {
    pub(crate) fn start_drill(&mut self, fault: Fault) -> Result<Drill, Refusal> {
        if self.watch.drilling.as_ref().is_some_and(|drilling| !drilling.said.over) {
            return Err(Refusal::Invalid("a drill is under way; it ends by itself".to_owned()));
        }
        let failed = |error: anyhow::Error| Refusal::Failed(format!("the drill could not be made: {error:#}"));
        let mut stage = self.stage().map_err(failed)?;
        let start = Instant::now();
        let found = stage.fail(fault).map_err(failed)?;
        let said = Drill { fault, steps: Vec::new(), over: false, missing: Vec::new() };
        let mut drilling = DrillRun { said, stage: Some(stage), start, deadline: start + PATIENCE };
        drilling.step("found".to_owned(), Some(found.clone()));
        let service: Option<ServiceName> = "drill".parse().ok();
        let subject = Subject { service, backend: None, entry: Some(fault.to_string()) };
        let summary = format!("this is a drill, nothing is wrong: {found}");
        self.watch.watchtower.drill = vec![Raised::new(&catalogue::DRILL, subject, summary)];
        let said = drilling.said.clone();
        self.watch.drilling = Some(drilling);
        Ok(said)
    }

    /// A service in a shadow of its own.
    fn stage(&mut self) -> Result<Stage> {
        // There is one shadow at a time; the next change loads it again.
        self.kernel.rehearsal = Rehearsal::default();
        let mut shadow = self.kernel.plane.shadow()?;
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
        let plan = plan_service(&service, &placed, &Numbering::default(), &self.desired.config.node);
        let mut image = Image::default();
        plan.add_lookups(&mut image);
        plan.add_backends(&mut image);
        image.sort_ranges();
        shadow.publish(image.clone(), plan.entry.table, &plan.settled_slots())?;
        let stage = Stage { shadow, service, plan, image };
        ensure!(stage.differences()?.is_empty(), "the shadow is not as it was written before any fault");
        Ok(stage)
    }

    /// Looks how far the drill has come.
    pub(crate) fn keep_drill(&mut self) {
        // One that is over stays, for whoever asks.
        let Some(mut drilling) = self.watch.drilling.take_if(|drilling| !drilling.said.over) else { return };
        let fault = drilling.said.fault;
        let ends = drilling.stage.is_none();
        let suffix = if ends { " over" } else { "" };
        let active = self.watch.watchtower.alarms.active();
        let is_active = active.iter().any(|alarm| alarm.alarm == catalogue::DRILL.name);
        if is_active != ends {
            drilling.step(format!("alarm{suffix}"), None);
        }
        let sample = format!("balancer_alarm_active{{alarm=\"{}\"", catalogue::DRILL.name);
        let shown = metrics::encode(&self.without_services());
        if shown.is_ok_and(|text| text.contains(&sample) != ends) {
            drilling.step(format!("metric{suffix}"), None);
        }
        let mut wanted = vec![format!("alarm{suffix}"), format!("metric{suffix}")];
        for webhook in &self.desired.config.node.alarming.webhooks {
            let name = webhook.name();
            // Who did not hear of the fault is not waited for to hear of its end.
            if drilling.said.missing.iter().any(|missing| *missing == format!("webhook {name}")) {
                continue;
            }
            let what = format!("webhook {name}{}", if ends { " resolved" } else { "" });
            let told = self.watch.watchtower.deliveries.get(name);
            if told.is_some_and(|told| told.drilled.contains(&(fault.to_string(), ends))) {
                drilling.step(what.clone(), None);
            }
            wanted.push(what);
        }
        let done = |what: &String| drilling.said.steps.iter().any(|step| step.what == *what);
        let missing: Vec<String> = wanted.into_iter().filter(|what| !done(what)).collect();
        let late = Instant::now() > drilling.deadline;
        if missing.is_empty() || late {
            drilling.said.missing.extend(missing);
            match drilling.stage.take() {
                Some(mut stage) => {
                    match stage.put_right(fault) {
                        Ok(()) => drop(drilling.step("put right".to_owned(), None)),
                        Err(error) => drilling.said.missing.push(format!("put right: {error:#}")),
                    }
                    self.watch.watchtower.drill.clear();
                    drilling.deadline = Instant::now() + PATIENCE;
                }
                None => drilling.said.over = true,
            }
        }
        self.watch.drilling = Some(drilling);
    }
}

impl Stage {
    fn expected(&self) -> Expected<'_> {
        Expected { image: &self.image, rates: BTreeMap::new(), access: None, capturing: false }
    }

    fn differences(&self) -> Result<Vec<Difference>> {
        self.shadow.plane().differences(&self.expected())
    }

    /// Brings the fault in, and has it found. Answers what was found, in words.
    fn fail(&mut self, fault: Fault) -> Result<String> {
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

    fn put_right(&mut self, fault: Fault) -> Result<()> {
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
