//! What is wrong now, from everything that the controller knows; once a second.

use std::time::{Duration, Instant, SystemTime};

use crate::alarm::catalogue::Definition;
use crate::alarm::{Alarm, Raised, Subject, catalogue};
use crate::control::api::Gap;
use crate::controller::state::State;
use crate::controller::watch::watchtower::Moment;
use crate::controller::watch::{LOAD_WINDOW, findings};
use crate::descriptors;
use crate::doctor::Filled;

/// How far back rates reach.
const WINDOW: Duration = Duration::from_secs(30);
/// After a change backends are looked for and probed first.
const SETTLING: Duration = Duration::from_secs(5);
/// How long it is said that a change was taken back.
const TOLD: Duration = Duration::from_secs(3600);

impl State {
    /// Looks at everything; answers which alarms came and which went.
    pub(crate) fn watch_alarms(&mut self) -> Vec<Alarm> {
        self.watch_shares();
        match self.due_counts(Instant::now()) {
            Ok(None) => {}
            Ok(Some(counts)) => {
                let (moments, at) = (&mut self.watch.watchtower.moments, Instant::now());
                while moments.len() > 1 && at.duration_since(moments[1].at) >= WINDOW {
                    moments.pop_front();
                }
                moments.push_back(Moment { at, counts });
            }
            Err(error) => log::error!("{error:#}"),
        }
        let mut raised: Vec<Raised> = self.watch.drift.gaps.iter().chain(&self.skewed()).filter_map(of_gap).collect();
        if self.desired.applied_at.elapsed() > SETTLING {
            raised.extend(self.watch.known_share_gaps().filter_map(of_gap));
        }
        if self.desired.refused.is_some() {
            // That the file is not what runs is part of what that alarm says.
            raised.retain(|raised| raised.definition != &catalogue::FILE);
        }
        raised.extend(findings::raised(self.desired.judged.in_force()));
        raised.extend(self.of_state());
        raised.extend(self.of_checks());
        raised.extend(self.of_rates());
        raised.extend(self.watch.watchtower.drill.iter().cloned());
        let changed = self.watch.watchtower.alarms.update(raised, SystemTime::now());
        for alarm in &changed {
            let (name, about) = (alarm.alarm.as_str(), about(&alarm.subject));
            let (severity, subject) = (alarm.severity.as_str(), about.trim_matches([' ', '(', ')']));
            match alarm.until {
                None => log::warn!(alarm = name, severity, subject; "alarm {name}{about}: {}", alarm.summary),
                Some(_) => log::info!(alarm = name, severity, subject; "alarm {name}{about} is over"),
            }
        }
        changed
    }

    /// What does not take counting.
    fn of_state(&self) -> Vec<Raised> {
        let mut raised = Vec::new();
        let mut raise = |definition: &'static Definition, subject: Subject, summary: String| {
            raised.push(Raised::new(definition, subject, summary));
        };
        if let Some(error) = &self.watch.drift.failed {
            raise(&catalogue::UNVERIFIED, Subject::default(), error.clone());
        }
        if let Some(why) = self.store.trouble() {
            raise(&catalogue::STATE_DIR, Subject::default(), format!("changes can't be kept: {why}"));
        }
        for damaged in self.store.damaged() {
            let file = damaged.split(' ').next().unwrap_or_default().to_owned();
            raise(&catalogue::DAMAGED, Subject::entry(file), damaged);
        }
        if let Some(why) = &self.desired.refused {
            let first = why.lines().next().unwrap_or_default();
            raise(&catalogue::REFUSED, Subject::default(), format!("what runs is older than the file: {first}"));
        }
        for (name, state) in &self.kernel.interfaces {
            if let Err(problem) = state {
                raise(&catalogue::DETACHED, Subject::entry(name.as_str()), problem.clone());
            }
        }
        let not_written = self.unwritten.said();
        if !not_written.is_empty() {
            raise(&catalogue::NOT_WRITTEN, Subject::default(), not_written.join("; "));
        }
        let recent = |told: &&(Instant, String)| told.0.elapsed() < TOLD;
        if let Some((_, why)) = self.watch.watchtower.taken_back.as_ref().filter(recent) {
            raise(&catalogue::TAKEN_BACK, Subject::default(), why.clone());
        }
        if let Some((_, why)) = self.watch.watchtower.disagreed.as_ref().filter(recent) {
            raise(&catalogue::DISAGREES, Subject::default(), why.clone());
        }
        for Filled { map, used, capacity, .. } in
            self.kernel.fill(&self.desired.config.limits).into_iter().filter(Filled::is_nearly_full)
        {
            let summary = format!("{used} of {capacity} entries of the map of {map} are in use");
            raise(&catalogue::MAP, Subject::entry(map), summary);
        }
        let running_out = descriptors::used().and_then(|used| descriptors::running_out(used, descriptors::limit()));
        if let Some(summary) = running_out {
            raise(&catalogue::DESCRIPTORS, Subject::default(), summary);
        }
        for (id, told, link) in self.path_mtus() {
            let summary = format!("a router says that the way to {id} takes {told} bytes, where the link takes {link}");
            raise(&catalogue::PATH_MTU, Subject::backend(&id.service, &id.backend), summary);
        }
        for (name, told) in &self.watch.watchtower.deliveries {
            if let Some(why) = &told.unreached {
                raise(&catalogue::WEBHOOK, Subject::entry(name.as_str()), format!("alarms don't reach {name}: {why}"));
            }
        }
        raised
    }

    /// What shows in the counts of the last half minute.
    fn of_rates(&self) -> Vec<Raised> {
        let (Some(then), Some(now)) = (self.watch.watchtower.moments.front(), self.watch.watchtower.moments.back())
        else {
            return Vec::new();
        };
        let seconds = now.at.duration_since(then.at).as_secs_f64();
        if seconds < 1.0 {
            return Vec::new();
        }
        let mut raised = Vec::new();
        let mut raise = |definition: &'static Definition, subject: Subject, summary: String| {
            raised.push(Raised::new(definition, subject, summary));
        };
        if let Some(summary) = now.counts.dropping(&then.counts) {
            raise(&catalogue::DROPPED, Subject::default(), summary);
        }
        for (service, summary) in now.counts.repeating(&then.counts) {
            raise(&catalogue::REPEATED, Subject::service(service), summary);
        }
        for (service, new) in now.counts.overflowing(&then.counts) {
            let summary = format!("{new} flows in {seconds:.0} s met a full flow table");
            raise(&catalogue::FLOW_TABLE, Subject::service(service), summary);
        }
        // Servers fall over sooner than the rest shows.
        let recent =
            self.watch.watchtower.moments.iter().find(|moment| now.at.duration_since(moment.at) <= LOAD_WINDOW);
        let then = recent.unwrap_or(then);
        let seconds = now.at.duration_since(then.at).as_secs_f64().max(1.0);
        for (service, backend, most) in self.desired.declared() {
            let (Some(after), Some(before)) =
                (now.counts.servers.get(&backend.address), then.counts.servers.get(&backend.address))
            else {
                continue;
            };
            let rate = after.saturating_sub(*before) as f64 / seconds;
            if rate > most as f64 {
                let summary = format!("{rate:.0} new flows a second for {}, which can take {most}", backend.address);
                raise(&catalogue::OVERLOADED, Subject::backend(&service.name, &backend.name), summary);
            }
        }
        raised
    }
}

fn of_gap(gap: &Gap) -> Option<Raised> {
    let definition = catalogue::definition(&gap.alarm)?;
    let is_place = gap.service.is_none() && gap.backend.is_none();
    let subject = Subject {
        service: gap.service.clone(),
        backend: gap.backend.clone(),
        entry: is_place.then(|| gap.entry.clone()),
    };
    Some(Raised::new(definition, subject, gap.to_string()))
}

fn about(subject: &Subject) -> String {
    match (&subject.service, &subject.backend, &subject.entry) {
        (Some(service), Some(backend), None) => format!(" ({service}/{backend})"),
        (Some(service), Some(backend), Some(entry)) => format!(" ({entry} {service}/{backend})"),
        (Some(service), None, Some(entry)) => format!(" ({entry} {service})"),
        (Some(service), None, None) => format!(" ({service})"),
        (None, _, Some(entry)) => format!(" ({entry})"),
        _ => String::new(),
    }
}
