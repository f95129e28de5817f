//! A drill: a fault in the shadow of the program, on a service that no client has, followed through comparison, alarm, metric
//! and webhook to its end. Everything but the fault is what works in earnest.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::alarm::{Raised, Subject, catalogue};
use crate::control::api::{Drill, Fault};
use crate::controller::kernel::trial::Rehearsal;
use crate::controller::refusal::Refusal;
use crate::controller::state::State;
use crate::controller::watch::drill::DrillRun;
use crate::controller::watch::stage::Stage;
use crate::model::ServiceName;

/// How long the alarm, and then its end, may take to get everywhere.
const PATIENCE: Duration = Duration::from_secs(20);

impl State {
    pub(crate) fn start_drill(&mut self, fault: Fault) -> Result<Drill, Refusal> {
        if self.watch.drilling.as_ref().is_some_and(|drilling| !drilling.said.over) {
            return Err(Refusal::Invalid("a drill is under way; it ends by itself".to_owned()));
        }
        let failed = |error: anyhow::Error| Refusal::Failed(format!("the drill could not be made: {error:#}"));
        // There is one shadow at a time; the next change loads it again.
        self.kernel.rehearsal = Rehearsal::default();
        let shadow = self.kernel.plane.shadow().map_err(failed)?;
        let mut stage = Stage::new(shadow, &self.desired.config.node).map_err(failed)?;
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

    /// Looks how far the drill has come; `shown` is what a scrape of `/metrics` has now.
    pub(crate) fn keep_drill(&mut self, shown: &str) {
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
        if shown.contains(&sample) != ends {
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
