//! What a run showed: how fast, how many, how long, and whom the connections reached.

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Load;
use super::tally::{Failures, Tally};
use crate::control::api::{BackendStatus, ServiceStatus, Status};
use crate::model::{BackendName, ServiceName};

/// Flows beyond the connections that need no explanation: SYNs that were sent again, a few other clients.
const UNREMARKABLE: f64 = 0.03;
const FEW: u64 = 10;
/// Two-sided 99 % quantile of the normal distribution.
const Z: f64 = 2.576;

/// Behind `balancer loadtest --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub service: ServiceName,
    pub target: SocketAddr,
    /// Connections a second.
    pub rate: Rate,
    /// Of the time in which connections were opened.
    pub seconds: Seconds,
    pub connections: Connections,
    /// Failed connections by kind.
    pub failures: Failures,
    /// Microseconds from when a connection was due, of those that got so far: a timeout is no latency.
    pub latency_us: Latencies,
    pub backends: Vec<Reached>,
    /// What is to be known about the figures.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    pub asked: u32,
    pub achieved: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Seconds {
    pub asked: f64,
    pub taken: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Connections {
    pub asked: u64,
    pub opened: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Broken off by the user.
    pub unfinished: u64,
    /// Never opened.
    pub skipped: u64,
    /// Of those, because this host was too far behind the schedule.
    pub skipped_late: u64,
    pub most_open: usize,
    /// How many might have been open at once.
    pub most_open_allowed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latencies {
    /// This host's own delay; the others contain it.
    pub begin: Option<Percentiles>,
    pub connect: Option<Percentiles>,
    /// First byte of the answer.
    pub answer: Option<Percentiles>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99.9")]
    pub p99_9: u64,
    pub max: u64,
}

impl Percentiles {
    /// `None` where nothing was measured.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max(),
        })
    }
}

/// A backend's part of the new flows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reached {
    pub name: BackendName,
    /// Share of the table before the run; `null` where nothing was to be divided.
    pub planned: Option<f64>,
    /// Share of the new flows during the run.
    pub observed: Option<f64>,
    pub new_flows: u64,
    /// How much more than planned, in percent of what was planned.
    pub difference_percent: Option<f64>,
    /// How much of a difference chance explains: 99 of 100 runs with as many different source ports differ by less.
    pub chance_percent: Option<f64>,
}

impl Report {
    /// `after` is the controller's answer after the run, or why there is none.
    pub fn new(
        service: &ServiceName,
        load: &Load,
        tally: &Tally,
        before: &Status,
        after: Result<&Status, String>,
    ) -> Self {
        let schedule = &load.schedule;
        let taken = tally.opening.as_secs_f64();
        let mut notes = Vec::new();
        if tally.interrupted {
            notes.push("ended early by the user".to_owned());
        }
        if tally.skipped_late > 0 {
            notes.push(format!(
                "this host can't keep up: {} connections were skipped more than 1 s after they were due; it lacks \
                 processors, or source ports (see --from)",
                tally.skipped_late
            ));
        }
        let backends = match after {
            Ok(after) => counted(service, tally, before, after, &mut notes),
            Err(error) => {
                notes.push(format!("no shares: {error}"));
                Vec::new()
            }
        };
        Self {
            service: service.clone(),
            target: load.connection.target,
            rate: Rate { asked: schedule.rate.get(), achieved: tally.opened as f64 / taken },
            seconds: Seconds { asked: schedule.duration.as_secs_f64(), taken },
            connections: Connections {
                asked: schedule.count(),
                opened: tally.opened,
                succeeded: tally.succeeded,
                failed: tally.failures.total(),
                unfinished: tally.unfinished,
                skipped: tally.skipped(),
                skipped_late: tally.skipped_late,
                most_open: tally.most_open,
                most_open_allowed: schedule.most_open,
            },
            failures: tally.failures.clone(),
            latency_us: Latencies {
                begin: Percentiles::of(&tally.begun),
                connect: Percentiles::of(&tally.connected),
                answer: Percentiles::of(&tally.answered),
            },
            backends,
            notes,
        }
    }

    /// Whether every connection that was due was opened and went well, and any of them came through the balancer.
    pub fn is_clean(&self) -> bool {
        self.connections.failed == 0 && self.connections.skipped == 0 && !self.came_past_the_balancer()
    }

    /// Connections were opened, and the counters of the service did not move.
    fn came_past_the_balancer(&self) -> bool {
        let counted = !self.backends.is_empty() && self.backends.iter().all(|reached| reached.new_flows == 0);
        counted && self.connections.succeeded > 0
    }
}

/// What the controller counted between two answers, and what is odd about it.
fn counted(
    service: &ServiceName,
    tally: &Tally,
    before: &Status,
    after: &Status,
    notes: &mut Vec<String>,
) -> Vec<Reached> {
    let of = |status: &Status| status.services.iter().find(|found| found.name == *service).cloned();
    let (Some(was), Some(is)) = (of(before), of(after)) else {
        notes.push(format!("no shares: service {service} was removed meanwhile"));
        return Vec::new();
    };
    if before.generation != after.generation {
        let (a, b) = (before.generation, after.generation);
        notes.push(format!("generation {a} became {b} meanwhile; the planned shares are those of {a}"));
    }
    let opened = tally.opened;
    let reached = reached(&was, &is.backends, tally.effective_flows());
    let flows: u64 = reached.iter().map(|reached| reached.new_flows).sum();
    let tolerated = FEW + (opened as f64 * UNREMARKABLE) as u64;
    if flows > opened + tolerated {
        let more = flows - opened;
        notes.push(format!(
            "other traffic came to {service} meanwhile: about {more} new flows, which the shares contain"
        ));
    } else if flows == 0 && opened > 0 {
        notes.push(format!(
            "no connection came through the balancer: the counters of {service} did not move. Packets of this host took \
             another way; run this where packets to the service come to the balancer by an interface"
        ));
    } else if flows + tolerated < opened {
        let missing = opened - flows;
        notes.push(format!(
            "{missing} of {opened} connections reached no backend by this balancer: dropped (see `balancer status`), or \
             sent another way; what this host sends to its own service does not come in by an interface"
        ));
    }
    reached
}

/// Each backend's part, where chance had `flows` different ones to distribute.
fn reached(was: &ServiceStatus, backends: &[BackendStatus], flows: f64) -> Vec<Reached> {
    let earlier = |name: &BackendName| was.backends.iter().find(|backend| backend.name == *name);
    let grown = |backend: &BackendStatus| {
        let before = earlier(&backend.name).map_or(0, |earlier| earlier.new_flows);
        backend.new_flows.saturating_sub(before)
    };
    let total: u64 = backends.iter().map(grown).sum();
    let one = |backend: &BackendStatus| {
        let new_flows = grown(backend);
        let planned = earlier(&backend.name).and_then(|earlier| earlier.share.planned);
        let observed = (total > 0).then(|| new_flows as f64 / total as f64);
        let share = planned.filter(|share| *share > 0.0);
        Reached {
            name: backend.name.clone(),
            planned,
            observed,
            new_flows,
            difference_percent: share.zip(observed).map(|(planned, observed)| (observed / planned - 1.0) * 100.0),
            chance_percent: share
                .filter(|_| flows > 0.0)
                .map(|planned| Z * ((1.0 - planned) / (planned * flows)).sqrt() * 100.0),
        }
    };
    backends.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::loadtest::connect::{Connection, Exchange};
    use crate::loadtest::schedule::Schedule;
    use crate::loadtest::tally::Outcome;

    /// A service of backends with planned share and new flows.
    fn status(generation: u64, backends: &[(&str, f64, u64)]) -> Status {
        let backend = |(name, planned, new_flows): &(&str, f64, u64)| {
            json!({
                "name": name, "address": "10.0.0.1", "port": 80, "weight": 1, "file_weight": 1, "effective_weight": 1,
                "state": "up", "share": { "planned": planned }, "packets": 0, "bytes": 0, "new_flows": new_flows,
                "check_failures": 0,
            })
        };
        let service = json!({
            "name": "web", "protocol": "tcp", "address": "192.0.2.10", "port": 80, "forward": "l2", "affinity": "flow",
            "table_size": 65537, "open_slots": 0, "backends": backends.iter().map(backend).collect::<Vec<_>>(),
        });
        serde_json::from_value(json!({
            "node": "lb", "version": "0", "generation": generation, "config_file": "f", "config_applied_at": "t",
            "interfaces": [], "services": [service], "dropped": {},
        }))
        .unwrap()
    }

    /// The report of so many connections, all of which succeeded.
    fn report(opened: u64, before: &Status, after: Result<&Status, String>) -> Report {
        let schedule = Schedule::new(NonZeroU32::new(100).unwrap(), Duration::from_secs(4), 50).unwrap();
        let target = "192.0.2.10:80".parse().unwrap();
        let connection = Connection { target, timeout: Duration::from_secs(3), exchange: Exchange::None };
        let load = Load { schedule, connection, sources: Vec::new() };
        let mut tally = Tally { opened, opening: Duration::from_secs(4), ..Tally::default() };
        for i in 1..=opened {
            let connected = Some(Duration::from_micros(i));
            let source = Some(([10, 0, 0, 1], i as u16).into());
            tally.end(Outcome { begun: Duration::ZERO, connected, answered: None, source, failure: None });
        }
        Report::new(&"web".parse().unwrap(), &load, &tally, before, after)
    }

    #[test]
    fn shares_are_of_what_was_counted_meanwhile() {
        let before = status(3, &[("a", 0.25, 1000), ("b", 0.75, 5), ("c", 0.0, 0)]);
        let after = status(3, &[("a", 0.25, 1090), ("b", 0.75, 315), ("c", 0.0, 0)]);
        let report = report(400, &before, Ok(&after));
        let [a, b, c] = &report.backends[..] else { panic!("{report:?}") };
        assert_eq!((a.new_flows, a.planned, a.observed), (90, Some(0.25), Some(0.225)));
        assert!((a.difference_percent.unwrap() + 10.0).abs() < 1e-9, "{a:?}");
        // 2.576 standard deviations of B(400, 0.25), which are 8.66 each, in percent of 100.
        assert!((a.chance_percent.unwrap() - 22.3).abs() < 0.05, "{a:?}");
        assert_eq!((b.new_flows, b.observed), (310, Some(0.775)));
        assert_eq!((c.observed, c.difference_percent, c.chance_percent), (Some(0.0), None, None));
        assert!(report.notes.is_empty() && report.is_clean(), "{report:?}");
        assert_eq!(report.rate, Rate { asked: 100, achieved: 100.0 });
    }

    #[test]
    fn what_makes_the_shares_doubtful_is_said() {
        let before = status(3, &[("a", 1.0, 0)]);
        for (after, said) in [
            (status(3, &[("a", 1.0, 430)]), "other traffic came to web meanwhile: about 130 new flows"),
            (status(3, &[("a", 1.0, 0)]), "no connection came through the balancer: the counters of web did not move"),
            (status(3, &[("a", 1.0, 100)]), "200 of 300 connections reached no backend by this balancer"),
            (status(4, &[("a", 1.0, 300)]), "generation 3 became 4 meanwhile"),
            (Status { services: Vec::new(), ..before.clone() }, "service web was removed meanwhile"),
        ] {
            let notes = report(300, &before, Ok(&after)).notes;
            assert!(notes.len() == 1 && notes[0].contains(said), "{notes:?}, not {said:?}");
        }
        let lost = report(300, &before, Err("no controller answers".to_owned()));
        assert!(lost.backends.is_empty() && lost.notes[0].contains("no controller answers"), "{lost:?}");
        // A few SYNs come again on any network.
        assert!(report(300, &before, Ok(&status(3, &[("a", 1.0, 315)]))).notes.is_empty());
    }

    #[test]
    fn a_failure_or_a_skipped_connection_is_not_clean() {
        let before = status(3, &[("a", 1.0, 0)]);
        let clean = report(10, &before, Ok(&status(3, &[("a", 1.0, 10)])));
        assert!(clean.is_clean());
        assert!(!report(10, &before, Ok(&before)).is_clean(), "nothing came through the balancer");
        for (failed, skipped) in [(1, 0), (0, 1)] {
            let connections = Connections { failed, skipped, ..clean.connections };
            assert!(!Report { connections, ..clean.clone() }.is_clean());
        }
    }

    #[test]
    fn percentiles_are_in_microseconds_and_absent_where_nothing_was_measured() {
        let before = status(3, &[("a", 1.0, 0)]);
        let value: Value = serde_json::to_value(report(1000, &before, Ok(&before))).unwrap();
        let connect = json!({ "p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "max": 1000 });
        assert_eq!(value["latency_us"]["connect"], connect);
        assert_eq!(value["latency_us"]["answer"], Value::Null);
        assert_eq!(value["failures"], json!({ "refused": 0, "reset": 0, "timed_out": 0, "other": {} }));
    }
}
