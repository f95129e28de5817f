//! From a config file to a running controller: take the locks, load over what is pinned, learn enough about backends to
//! write the first tables, attach, serve.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::controller::counts::Layout;
use crate::controller::desired::empty::refuse_emptiness;
use crate::controller::desired::judged::Judged;
use crate::controller::desired::settling::Print;
use crate::controller::desired::{Desired, file as file_watch};
use crate::controller::handle::Handle;
use crate::controller::host;
use crate::controller::kernel::allocate::Pools;
use crate::controller::kernel::fragments::FragmentBuffer;
use crate::controller::kernel::trial::Rehearsal;
use crate::controller::kernel::{Kernel, Knowledge};
use crate::controller::observed::{HealthState, Observed};
use crate::controller::proposal::{ChangeRequest, Linted, judged, linted, said};
use crate::controller::published::{Publishing, Reader};
use crate::controller::state::State;
use crate::controller::step::reason::Change;
use crate::controller::task::{Controller, webhooks};
use crate::controller::unwritten::{Part, Unwritten};
use crate::controller::watch::Agreement;
use crate::controller::watch::drift::Drift;
use crate::controller::watch::observer::Observer;
use crate::controller::watch::shares::ShareGaps;
use crate::controller::watch::traffic::Profile;
use crate::controller::watch::watchtower::Watchtower;
use crate::dataplane::{DataPlane, Events, Lock, Pins, Told};
use crate::health::{Health, Monitor};
use crate::history::{History, digest};
use crate::journal::{Journal, seeds_in};
use crate::model::{Config, DatapathLog};
use crate::moment::Moment;
use crate::neighbor::Resolver;
use crate::service_manager::ServiceManager;
use crate::spec::Loaded;
use crate::state::{Allocations, Fallback, StateDir, leftovers, make_private};
use crate::{control, http, spec};

/// How long a cold start waits, at most, for first probes and next hops before it writes the first tables.
const LEARN: Duration = Duration::from_secs(3);

/// The tasks that answer others.
pub(crate) struct Servers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    _lock: Lock,
    control_socket: std::path::PathBuf,
}

impl Servers {
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
        let _ = std::fs::remove_file(self.control_socket);
    }
}

impl State {
    /// A guarded change was not confirmed before the controller ended: what was before it is wanted, and is written as soon
    /// as the disk takes it.
    fn went_back(&mut self, fallback: Fallback) {
        let was = &fallback.command;
        log::warn!("{was} was guarded and not confirmed when the controller ended: it is taken back");
        let why = format!("{was} was taken back: it was not confirmed when the controller ended");
        self.watch.watchtower.taken_back = Some((std::time::Instant::now(), why));
        self.desired.overrides = fallback.overrides;
        // Each is tried again each second; the note of the change goes last.
        for part in [Part::File, Part::Overrides, Part::Guard] {
            self.keep(part).ok();
        }
    }
}

impl Controller {
    /// Waits until every backend was probed and looked up once, or long enough.
    pub(crate) async fn learn(&mut self) {
        let deadline = Instant::now() + LEARN;
        let mut ignored = BTreeSet::new();
        while !self.running.knows_enough() {
            let step = async {
                tokio::select! {
                    Some(report) = self.reports.recv() => self.running.observed.note_report(report, &mut ignored),
                    Some(event) = self.events.recv() => self.running.note_event(event, &mut ignored),
                }
            };
            if timeout_at(deadline, step).await.is_err() {
                log::warn!("not every backend was probed within {LEARN:?}; the others join when they answer");
                return;
            }
        }
    }
}

pub(crate) async fn start(path: &Path, handle: Handle) -> Result<(Controller, Servers)> {
    let seen = Print::of(path);
    let read = read(path)?;
    host::check()?;
    raise_file_limit();
    let node = &read.0.config.node;
    let state = StateDir::create(&node.state_dir)?;
    let pins = Pins::create(&node.pin_dir)?;
    let lock = Lock::take(&node.state_dir, &node.pin_dir)?;
    tidy(path, &node.state_dir);
    let there = digest(read.0.text.as_bytes());
    let (read, taken_back) = take_back_unconfirmed(path, &state, read)?;
    let (Loaded { config, text, written }, found) = read;
    for finding in found.findings.iter().filter(|finding| finding.counts()) {
        log::warn!("{}; `balancer check --explain {}` says more", said(finding), finding.id);
    }
    let control_listener = control::server::bind(&config.node.control_socket, config.node.control.group.as_deref())?;
    let http_listener = match config.node.http_listen {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
            format!("listening on `node.http_listen` = {address}; is another controller or exporter there?")
        })?),
        None => None,
    };
    let (mut plane, logger) = DataPlane::load(pins, config.limits, config.node.datapath_log)?;
    follow_log(logger, config.node.datapath_log)?;
    let told = follow_events(plane.take_events())?;

    let mut running = adopt(path, config, state, plane)?;
    let accepted = running.store.accepted();
    refuse_emptiness(&found, running.kernel.allocations.services.len())?;
    (running.desired.text, running.desired.judged) = (text, Judged::new(written, found.findings, accepted));
    running.desired.seen = there;
    if let Some(fallback) = taken_back {
        running.went_back(fallback);
    }
    let ended = running.desired.end_overrides();
    if !ended.is_empty() {
        // Forwarding does not wait for the disk.
        running.keep(Part::Overrides).ok();
    }
    running.judge_all();
    let (report_sender, reports) = mpsc::channel(1024);
    let (event_sender, events) = mpsc::channel(1024);
    let resolver = Resolver::start(event_sender)?;
    let file =
        running.desired.config.node.watch_config.then(|| file_watch::FileWatcher::new(path, seen)).transpose()?;
    let monitor = Monitor::new(report_sender);
    let deliveries = mpsc::unbounded_channel();
    let webhooks = webhooks(&running.desired.config.node, &deliveries.0)?;
    let manager = ServiceManager::from_environment();
    let (published, readers) = watch::channel(Arc::default());
    let policies = readers.clone();
    let reader = Reader::new(readers, running.kernel.plane.counter_maps()?);
    let mut controller = Controller {
        running,
        monitor,
        reports,
        resolver,
        events,
        told,
        webhooks,
        deliveries,
        published,
        file,
        manager,
        detached: false,
    };
    controller.follow_config();
    if !controller.running.kernel.plane.adopted() {
        controller.learn().await;
    }
    let all = controller.running.desired.all_services();
    let because = vec![format!("start with {}", path.display())];
    controller.running.reconcile(all, Change { trial: None, because })?;
    let State { desired, kernel, .. } = &mut controller.running;
    kernel.attach_interfaces(&desired.config.interfaces).map_err(anyhow::Error::msg)?;
    kernel.detach_unwanted(&desired.config.interfaces);
    *controller.running.desired.applies.entry("ok").or_default() += 1;
    log::info!("generation {} is in force", controller.running.kernel.generation);
    let command = format!("start with {}", path.display());
    controller.running.record_if_new(ChangeRequest { command, ..ChangeRequest::default() });

    controller.publish();
    let (stop, stopped) = watch::channel(false);
    let policy = Arc::new(move || policies.borrow().control());
    let control = control::server::serve(control_listener, handle.clone(), policy, stopped.clone());
    let mut tasks = vec![tokio::spawn(control)];
    if let Some(listener) = http_listener {
        tasks.push(tokio::spawn(http::serve(listener, handle, reader, stopped)));
    }
    let control_socket = controller.running.desired.config.node.control_socket.clone();
    Ok((controller, Servers { stop, tasks, _lock: lock, control_socket }))
}

fn read(path: &Path) -> Result<Linted> {
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(linted(&path.display().to_string(), spec::text(path)?, directory)?)
}

/// A guarded change that nobody had confirmed when the controller ended does not come again: the config before it is what
/// runs, whatever the disk lets be written. A file that is newer than the change is what somebody wants now, and stays.
fn take_back_unconfirmed(path: &Path, state: &StateDir, read: Linted) -> Result<(Linted, Option<Fallback>)> {
    let Some(fallback) = state.guard() else { return Ok((read, None)) };
    let there = &read.0.text;
    if *there == fallback.text {
        return Ok((read, Some(fallback)));
    }
    if !fallback.known.is_empty() && !fallback.known.contains(&digest(there.as_bytes())) {
        log::warn!("{} is newer than the guarded change and is what runs", path.display());
        return Ok((read, Some(fallback)));
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let before = judged(&path.display().to_string(), fallback.text.clone(), directory)?;
    Ok((before, Some(fallback)))
}

/// What controllers that were killed left behind goes, and what others could read they no longer can.
fn tidy(config: &Path, state_dir: &Path) {
    let beside = std::fs::canonicalize(config).ok().and_then(|path| path.parent().map(Path::to_owned));
    let beside = beside.unwrap_or_default();
    leftovers(&[state_dir, &state_dir.join("generations"), &beside], SystemTime::now());
    make_private(state_dir);
}

/// Thousands of checks at a time, and two descriptors for each table, are more files than the usual soft limit.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::warn!("the limit of open files stays as it is: {error}");
    }
}

/// Takes over what an earlier controller left in the kernel and on disk, as far as both belong together.
fn adopt(path: &Path, config: Config, state: StateDir, mut plane: DataPlane) -> Result<State> {
    let (image, tables) = plane.read_back()?;
    let mut allocations = state.allocations();
    if allocations.instance != plane.instance() {
        allocations = Allocations { instance: plane.instance(), ..Allocations::default() };
    }
    if plane.adopted() {
        log::info!(
            "took over {} services and {} backends from an earlier controller",
            allocations.services.len(),
            image.backends.len()
        );
    }
    let older = || state.contents().iter().flat_map(|text| seeds_in(text)).collect();
    let journal = Journal::open(&config.node.state_dir, &config.services, config.node.seed, older);
    let healths = state.healths();
    let mut owns = vec![false; 1 << 16];
    tables.values().flatten().for_each(|slot| owns[usize::from(slot.owner())] = true);
    let mut checked = HashMap::new();
    for (id, allocated) in &allocations.backends {
        // Who owned slots was up; that is better than not knowing.
        let owned = || owns[usize::from(allocated.index)];
        let health = match healths.get(id) {
            Some(health) if plane.adopted() => *health,
            _ if owned() => Health::Up,
            _ => Health::Unknown,
        };
        checked.insert(id.clone(), HealthState { health, ..HealthState::default() });
    }
    let profile = Profile::new(&config.node);
    let pools = Pools::new(&config.limits, &allocations);
    let history = History::open(&state);
    // Where one of the files is lost, no number is given twice.
    let recorded = history.records().iter().map(|record| record.generation).max().unwrap_or(0);
    let last_generation = state.generation().generation.max(recorded).max(journal.highest_generation());
    let mut running = State {
        desired: Desired {
            path: path.to_owned(),
            text: String::new(),
            seen: String::new(),
            judged: Judged::default(),
            overrides: state.overrides(),
            history,
            probation: None,
            applies: BTreeMap::from([("ok", 0), ("refused", 0), ("failed", 0)]),
            applied_at: Moment::now(),
            refused: None,
            config,
        },
        observed: Observed { checked, ..Observed::default() },
        kernel: Kernel {
            plane,
            programmed: BTreeMap::new(),
            image,
            knowledge: Knowledge::Read(tables),
            pending: BTreeSet::new(),
            pools,
            allocations,
            generation: last_generation,
            journal,
            rehearsal: Rehearsal::default(),
            interfaces: BTreeMap::new(),
            held: FragmentBuffer::default(),
            capture: None,
        },
        watch: Agreement {
            drift: Drift::default(),
            watchtower: Watchtower::default(),
            observer: Observer::default(),
            shares: ShareGaps::default(),
            layout: Layout::default(),
            profile,
            drilling: None,
        },
        store: state,
        unwritten: Unwritten::default(),
        publishing: Publishing::default(),
    };
    running.keep_next_hops();
    Ok(running)
}

/// Brings the program's records to the controller. Where it is slow they wait in the ring, and are lost once that is full.
fn follow_events(events: Option<Events>) -> Result<mpsc::Receiver<Told>> {
    let (sender, receiver) = mpsc::channel(1024);
    let Some(events) = events else { return Ok(receiver) };
    // SAFETY: the ring owns the descriptor, which therefore lives as long as the registration.
    let mut events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }
        .map_err(|error| anyhow::anyhow!("following the program's records: {error:?}"))?;
    tokio::spawn(async move {
        while let Ok(mut ready) = events.readable_mut().await {
            while let Some(told) = ready.get_inner_mut().take() {
                if sender.send(told).await.is_err() {
                    return;
                }
            }
            ready.clear_ready();
        }
    });
    Ok(receiver)
}

/// Brings the program's messages to the log.
fn follow_log(logger: EbpfLogger<&'static dyn log::Log>, level: DatapathLog) -> Result<()> {
    if level == DatapathLog::Off {
        return Ok(());
    }
    // SAFETY: the logger owns the descriptor, which therefore lives as long as the registration.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| anyhow::anyhow!("following the program's log: {error:?}"))?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
