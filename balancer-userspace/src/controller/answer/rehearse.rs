//! `balancer rehearse`: recorded traffic on another config. It needs the disk and the processors for long, so it is done
//! beside the controller's own task, and nothing of what runs is asked or changed.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::OwnedSemaphorePermit;

use crate::control::api::{
    AbsentService, AfterLoss, LoadAfterLoss, Rehearsed, RehearsedBackend, RehearsedPeak, RehearsedService,
};
use crate::controller::kernel::build::in_parallel;
use crate::controller::refusal::Refusal;
use crate::controller::requests::Rehearse;
use crate::controller::state::State;
use crate::model::{Config, ServiceName};
use crate::profile::{Interval, Loss, Peak, Peaks, Replay, Store, Stored};
use crate::rights::Rights;
use crate::spec::{self, Beside};

/// What a rehearsal needs of the controller; while it is there, no other one begins.
pub(crate) struct Rehearsal {
    /// Lists that the file names are beside the one in force, as for `apply`.
    directory: PathBuf,
    store: Store,
    _only_one: OwnedSemaphorePermit,
}

impl State {
    pub(crate) fn begin_rehearsal(&self) -> Result<Rehearsal, Refusal> {
        let permit = self.watch.profile.rehearsals.clone().try_acquire_owned();
        Ok(Rehearsal {
            directory: self.desired.path.parent().map(PathBuf::from).unwrap_or_default(),
            store: self.watch.profile.store.clone(),
            _only_one: permit.map_err(|_| {
                Refusal::Invalid("another rehearsal is under way; ask again when it is done".to_owned())
            })?,
        })
    }
}

impl Rehearsal {
    /// Takes long.
    pub(crate) fn run(self, request: Rehearse, rights: Option<&Rights>) -> Result<Rehearsed, Refusal> {
        rehearse(request, Beside { directory: &self.directory, rights }, &self.store)
    }
}

fn rehearse(request: Rehearse, beside: Beside<'_>, store: &Store) -> Result<Rehearsed, Refusal> {
    let loaded = spec::read(&request.file, request.text.clone(), beside);
    let config = loaded.map_err(Refusal::from)?.config;
    let only = request.service.as_ref().map(|name| place(&config, name)).transpose()?;
    let stored = recorded(&request, store)?;
    Ok(answer(&config, request, &stored, only))
}

fn place(config: &Config, name: &ServiceName) -> Result<usize, Refusal> {
    let place = config.services.position(name);
    place.ok_or_else(|| Refusal::NotFound(format!("the file has no service {name}")))
}

fn recorded(request: &Rehearse, store: &Store) -> Result<Stored, Refusal> {
    let failed = |error: anyhow::Error| Refusal::Failed(format!("{error:#}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let stored = store.read(&request.profile.seconds(now)).map_err(failed)?;
    if !stored.records.is_empty() {
        return Ok(stored);
    }
    let days: Vec<String> = store.days().map_err(failed)?.iter().map(ToString::to_string).collect();
    let there = if days.is_empty() {
        "nothing is recorded yet; the first record is there an interval or two after the start, where `[profile]` in the \
         config does not turn them off"
            .to_owned()
    } else {
        format!("there are: {}", days.join(", "))
    };
    Err(Refusal::NotFound(format!("no traffic is recorded of {} (days are those of UTC); {there}", request.profile)))
}

/// Losses that are computed at a time: what they bring is more than should be held of all of them.
const AT_ONCE: usize = 256;

/// The worst of several losses: how much, and which.
#[derive(Debug, Clone, Copy)]
struct Worst {
    peak: Peak,
    loss: usize,
}

fn raise(worst: &mut Option<Worst>, peak: Peak, loss: usize) {
    if worst.is_none_or(|known| known.peak.rate < peak.rate) {
        *worst = Some(Worst { peak, loss });
    }
}

/// Of one server: of each backend that it is, and of all of them together.
#[derive(Debug, Clone, Default)]
struct AfterLosses {
    members: Vec<Option<Worst>>,
    whole: Option<Worst>,
}

/// Recorded traffic on a config, and what comes of it.
struct Stage<'a> {
    config: &'a Config,
    replay: &'a Replay<'a>,
    losses: Vec<Loss>,
    /// By server.
    now: Vec<Peaks>,
    after: Vec<AfterLosses>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(config: &'a Config, replay: &'a Replay<'a>, only: Option<usize>) -> Self {
        let servers: Vec<usize> = (0..replay.servers().len()).collect();
        let concerns = |loss: &Loss| only.is_none_or(|service| replay.touches(loss, service));
        let losses: Vec<Loss> = replay.losses().into_iter().filter(concerns).collect();
        let now = in_parallel(&servers, |server| replay.now(*server));
        let after = after(replay, &losses);
        Self { config, replay, losses, now, after }
    }

    pub(crate) fn service(&self, at: usize, rows: &[(usize, usize)]) -> RehearsedService {
        RehearsedService {
            name: self.config.services[at].name.clone(),
            peak: self.said(self.replay.peak(at)),
            spread_evenly: self.replay.spread[at],
            backends: rows.iter().map(|(server, member)| self.backend(*server, *member)).collect(),
        }
    }

    pub(crate) fn backend(&self, server: usize, member: usize) -> RehearsedBackend {
        let known = &self.replay.servers()[server];
        let (service, backend) = known.members[member];
        let backend = &self.config.services[service].backends[backend];
        let (now, after) = (&self.now[server], &self.after[server]);
        let capacity = known.capacity.new_flows;
        let load = |peak: Peak| capacity.map(|most| peak.rate / most as f64);
        let worst = after.members.get(member).copied().flatten();
        let after_loss = worst.map(|worst| AfterLoss { peak: self.said(worst.peak), without: self.name(worst.loss) });
        let load_after_loss = after
            .whole
            .and_then(|worst| load(worst.peak).map(|load| LoadAfterLoss { load, without: self.name(worst.loss) }));
        let load = load(now.whole);
        RehearsedBackend {
            name: backend.name.clone(),
            weight: backend.weight.get(),
            peak: self.said(now.members[member]),
            after_loss,
            capacity,
            exceeds: load.into_iter().chain(load_after_loss.as_ref().map(|after| after.load)).any(|load| load > 1.0),
            load,
            load_after_loss,
        }
    }

    pub(crate) fn said(&self, peak: Peak) -> RehearsedPeak {
        let Interval { start, seconds } = self.replay.intervals[peak.interval];
        RehearsedPeak { new_flows_per_second: peak.rate, at: at(start as f64), seconds }
    }

    pub(crate) fn name(&self, loss: usize) -> String {
        let Loss { domain, servers } = &self.losses[loss];
        match domain {
            Some(domain) => format!("failure domain {domain:?}"),
            None => {
                let (service, backend) = self.replay.servers()[servers[0]].members[0];
                let service = &self.config.services[service];
                service.id_of(&service.backends[backend]).to_string()
            }
        }
    }
}

/// The worst of all losses, by server.
fn after(replay: &Replay<'_>, losses: &[Loss]) -> Vec<AfterLosses> {
    let empty = |server: &crate::load::Server| AfterLosses { members: vec![None; server.members.len()], whole: None };
    let mut after: Vec<AfterLosses> = replay.servers().iter().map(empty).collect();
    for first in (0..losses.len()).step_by(AT_ONCE) {
        let numbers: Vec<usize> = (first..losses.len().min(first + AT_ONCE)).collect();
        let without = in_parallel(&numbers, |loss| replay.without(&losses[*loss]));
        for (loss, (server, peaks)) in
            numbers.into_iter().zip(without).flat_map(|(loss, all)| all.into_iter().map(move |one| (loss, one)))
        {
            let AfterLosses { members, whole } = &mut after[server];
            raise(whole, peaks.whole, loss);
            members.iter_mut().zip(peaks.members).for_each(|(worst, peak)| raise(worst, peak, loss));
        }
    }
    after
}

fn answer(config: &Config, request: Rehearse, stored: &Stored, only: Option<usize>) -> Rehearsed {
    let replay = Replay::new(&config.services, config.node.seed, &stored.records);
    let stage = Stage::new(config, &replay, only);
    // Where each backend of each service is found, in the order of the file.
    let mut rows: Vec<Vec<(usize, usize)>> = config.services.iter().map(|s| vec![(0, 0); s.backends.len()]).collect();
    for (server, known) in replay.servers().iter().enumerate() {
        for (member, (service, backend)) in known.members.iter().enumerate() {
            rows[*service][*backend] = (server, member);
        }
    }
    let asked = (0..config.services.len()).filter(|at| only.is_none_or(|only| only == *at));
    let (known, unknown): (Vec<usize>, Vec<usize>) = asked.partition(|at| replay.has_traffic(*at));
    let services: Vec<RehearsedService> = known.into_iter().map(|at| stage.service(at, &rows[at])).collect();
    let ends = replay.intervals.iter().map(|interval| interval.start as f64 + interval.seconds);
    let absent = replay.strangers.iter().map(|(name, flows)| AbsentService { name: name.clone(), new_flows: *flows });
    Rehearsed {
        file: request.file,
        profile: request.profile,
        records: replay.intervals.len(),
        from: at(replay.intervals.iter().map(|interval| interval.start as f64).fold(f64::INFINITY, f64::min)),
        to: at(ends.fold(0.0, f64::max)),
        broken: stored.broken,
        exceeded: services.iter().flat_map(|service| &service.backends).any(|backend| backend.exceeds),
        services,
        unknown: unknown.into_iter().map(|at| config.services[at].name.clone()).collect(),
        absent: if only.is_none() { absent.collect() } else { Vec::new() },
    }
}

/// A moment in seconds since the Unix epoch, to the second.
fn at(unix_seconds: f64) -> String {
    // More than four digits of a year can't be written.
    const LAST: f64 = 253_402_300_799.0;
    let since = Duration::from_secs(unix_seconds.clamp(0.0, LAST) as u64);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
