//! The wiring: from a configuration to a running gate, and out again.
//!
//! [`start_at`] is the whole order in one function; `data` and `planes` hold its steps. [`run`] adds the signals.

mod data;
mod planes;
mod shadow;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub use self::planes::Addrs;

use self::data::{Data, Requests};
use self::planes::{Parts, Planes, cannot_listen};
use crate::config::Config;
use crate::count::Observe;
use crate::credentials::CertificateError;
use crate::drain::{DrainSignal, DrainWatch, Phase};
use crate::ops::admin::tls::AdminTls;
use crate::ops::admin::{self, Attempts, Desk, Listener, READERS_MAX};
use crate::ops::alert::{self, AlertError};
use crate::ops::cache_file::CacheFile;
use crate::ops::faults::Faults;
use crate::ops::files::SnapshotFile;
use crate::ops::handover::{self, Giver, HandoverError, Taken};
use crate::ops::health::{Health, SinkLosses};
use crate::ops::journal::{self, Journal, JournalError};
use crate::ops::manager::Manager;
use crate::ops::metrics::Metrics;
use crate::ops::process::Process;
use crate::ops::recent::Recent;
use crate::ops::reloader::Reloader;
use crate::ops::seen::Seen;
use crate::ops::status::StatusSource;
use crate::ops::successor::Successor;
use crate::ops::{JournalSettings, JournalWhat};
use crate::policy::{Clock, Interest, SharedView, Sink, VerdictRecord, View};
use crate::registry::{LoadError, Shrink};
use crate::sockets::{Opened, Sockets};

/// Longest time answers under way may take once the gate drains; then everything ends.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Time for the last scrape and the last journal lines after the planes have ended.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);
/// Time for saving the answer cache: a slow disk takes some seconds for gigabytes, and service managers wait longer.
const CACHE_SAVE_MAX: Duration = Duration::from_secs(20);

/// Why the gate did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The sockets of the gate that runs cannot be had, or ours not be offered.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An address cannot be had.
    #[error("{plane}: {reason}")]
    Listen {
        /// `admin`, `dns`, `http` or `demo origin`.
        plane: &'static str,
        /// The address, what the system says, and who holds it where that can be told.
        reason: String,
    },
    /// No ranges, and the settings say not to start without.
    #[error("ranges: {0}; set policy.on-missing-ranges to start without them")]
    Ranges(LoadError),
    /// No registry, and the settings say not to start without.
    #[error("registry: {0}; set policy.on-missing-registry to start without one")]
    Registry(LoadError),
    /// A plane cannot work as configured: a zone, an upstream, a page template.
    #[error("{plane}: {reason}")]
    Setup {
        /// `admin`, `dns` or `http`.
        plane: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Signals cannot be received.
    #[error("signals: {0}")]
    Signals(io::Error),
}

impl StartError {
    /// The exit status: 3 when an address cannot be had, 2 for everything an edit puts right.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, Self::Listen { .. }) { 3 } else { 2 }
    }
}

/// A part ended that only the drain may end.
#[derive(Debug, Error)]
#[error("{0} ended by an internal error")]
pub struct PartFailed(pub &'static str);

/// A running gate.
pub struct Running {
    /// Where it listens.
    pub addrs: Addrs,
    /// The view both planes use.
    pub view: SharedView,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The ways to reload.
    pub reloader: Reloader,
    /// The way out: `Draining` ends the gate in good order, `Stopped` at once.
    pub drain: Arc<DrainSignal>,
    ended: JoinHandle<Result<(), PartFailed>>,
}

impl Running {
    /// Returns when the gate has ended.
    pub async fn wait(self) -> Result<(), PartFailed> {
        self.ended.await.unwrap_or(Err(PartFailed("the gate")))
    }
}

/// What a gate has from outside beside its configuration.
#[derive(Default)]
pub struct Surroundings {
    /// The time of day.
    pub clock: Clock,
    /// Who started it.
    pub manager: Arc<Manager>,
    /// The sockets it was started with.
    pub opened: Vec<Opened>,
}

/// Starts the gate by the machine's clock.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_in(config, Surroundings::default()).await
}

/// Starts the gate by a clock of its own.
pub async fn start_at(config: Config, clock: Clock) -> Result<Running, StartError> {
    start_in(config, Surroundings { clock, ..Surroundings::default() }).await
}

/// Starts the gate. The order is part of what it promises:
///
/// 1. Data first: a gate without them must not hold a port that a better one could have.
/// 2. The first view is published with its faults before any socket exists, so that no packet meets a half-made gate.
/// 3. The admin listener is bound before the planes: of two gates started by mistake the second then ends before it
///    takes a share of the first one's UDP packets (`SO_REUSEPORT`).
/// 4. Nothing is served before every socket is bound.
/// 5. The sockets of a gate that runs are taken over after the data are there, and it is told to end when all is served;
///    the service manager is told before that, or it would take the end of the old one for the end of the service.
/// 6. The admin listener and the journal end last: they tell how the planes ended.
pub async fn start_in(config: Config, surroundings: Surroundings) -> Result<Running, StartError> {
    let Surroundings { clock, manager, opened } = surroundings;
    let process = Process::begin();
    let seen = Seen::open(config.journal.unfiled.as_deref()).map_err(|error| unfiled_error(&config, &error))?;
    let alert_counters = Arc::new(alert::Counters::default());
    let (alerts, tellers) = alert::open(&config.alert, &alert_counters).map_err(alert_error)?;
    let seen = Arc::new(seen.telling(alerts));
    let (recent, journal_counters) = (Arc::new(Recent::new(seen.clone())), Arc::new(journal::Counters::default()));
    let journal = Journal::open(&config.journal, journal_counters.clone(), recent.clone())?;
    let parts = Parts::look(&config).await;
    let admin_tls = config.admin.tls.as_ref().map(AdminTls::load).transpose().map_err(admin_tls_error)?.map(Arc::new);
    let data = Data::load(&config, &clock).await?;
    let shadow_stores = shadow::stores(config.shadow.as_ref());
    let first = View { shadow: shadow::first(config.shadow.as_ref(), &shadow_stores), ..data.first_view(&config) };
    let view = SharedView::with_clock(first, clock);
    let faults = Arc::new(Faults::new(config.faults.clone(), view.clone(), data.registry.counters()));
    faults.look();

    let has_readers = config.admin.listen.is_some() || config.admin.socket.is_some() || config.alert.is_on();
    let (sink, records) = sink_for(&config.journal, has_readers);
    let (sockets, taken) = take_over(config.admin.handover.as_deref(), opened).await?;
    let listener = Listener::bind(&config.admin, &sockets).await.map_err(admin_error)?;
    let local = Listener::bind_local(&config.admin).map_err(admin_error)?;
    let planes = Planes::bind(&config, &view, &sink, &sockets).await?;
    if let Some(cache) = CacheFile::of(&planes.dns.gate()) {
        cache.restore().await;
    }
    let addrs = planes.addrs(listener.as_ref().and_then(Listener::addr));
    addrs.announce();

    let ((drain, drained), (late, end)) = (DrainSignal::new(), DrainSignal::new());
    let drain = Arc::new(drain);
    let [registry_asked, ranges_asked, zones_asked, pages_asked, certificates_asked, secrets_asked] =
        [(); 6].map(|()| Requests::new());
    let ways = [
        ("registry", &registry_asked),
        ("ranges", &ranges_asked),
        ("zones", &zones_asked),
        ("pages", &pages_asked),
        ("certificates", &certificates_asked),
        ("secrets", &secrets_asked),
    ];
    let mut ways = ways.map(|(part, asked)| (part, asked.sender.clone())).to_vec();
    let shadow_asked = (Requests::new(), Requests::new());
    ways.extend(shadow_stores.registry.iter().map(|_| ("shadow registry", shadow_asked.0.sender.clone())));
    ways.extend(shadow_stores.ranges.iter().map(|_| ("shadow ranges", shadow_asked.1.sender.clone())));
    let reloader = Reloader::new(ways, faults.clone(), journal.reopener());
    let health = Health {
        view: view.clone(),
        registry: data.registry.clone(),
        ranges: data.ranges.clone(),
        shadow: shadow_stores.clone(),
        dns: planes.dns.gate(),
        parts: vec![parts.zones.clone(), parts.pages.clone(), parts.certificates.clone(), parts.secrets.clone()],
        faults: faults.clone(),
        drain: drained.clone(),
    };
    let admin_counters = Arc::new(admin::Counters::default());
    let mut sources: Vec<Arc<dyn Observe>> = vec![Arc::new(process), faults.clone(), Arc::new(health.clone())];
    sources.extend(planes.sources().into_iter().chain(data.sources()).chain(parts.sources()));
    sources.extend([
        seen.clone() as _,
        journal_counters as _,
        alert_counters as _,
        Arc::new(SinkLosses(sink.clone())) as _,
        admin_counters.clone() as _,
        recent.shadow.clone() as _,
        shadow_stores.counters.clone().unwrap_or_default() as _,
        Arc::new(SnapshotFile::of(&config.registry)) as _,
    ]);
    let metrics = Arc::new(Metrics::new(sources));
    let desk = Desk {
        source: StatusSource { health, metrics: metrics.clone(), process, planes: addrs.listening() },
        reloader: reloader.clone(),
        recent,
        sink,
        drain: drain.clone(),
        end: end.clone(),
        readers: Arc::new(Semaphore::new(READERS_MAX)),
        token: config.admin.token.clone(),
        tls: admin_tls.clone(),
        asks_for_certificates: config.admin.asks_for_certificates(),
        attempts: Attempts::default(),
        names: config.admin.names.clone(),
        provider: config.provider.clone(),
        counters: admin_counters,
    };

    let [mut keepers, mut serving, mut behind, mut last] = [(); 4].map(|()| JoinSet::new());
    data.keep(&mut keepers, (&view, &faults), (registry_asked, ranges_asked), &drained);
    shadow::keep(&shadow_stores, &mut keepers, &view, shadow_asked, &drained);
    let asked = [zones_asked, pages_asked, certificates_asked, secrets_asked];
    parts.keep(&mut keepers, (&planes, admin_tls), asked, &drained);
    keepers.spawn(faults.run(drained.clone()));
    // Whatever may fail comes before the first connection is taken.
    let giver = config.admin.handover.as_deref().map(Giver::bind).transpose()?;
    let cache = CacheFile::of(&planes.dns.gate());
    planes.serve(&mut serving, &mut behind, &drained);
    last.spawn(journal.run(records, end.clone()));
    for teller in tellers {
        last.spawn(teller.run(end.clone()));
    }
    keepers.spawn(seen.keep(end));
    let desk = Arc::new(desk);
    for listener in [listener, local].into_iter().flatten() {
        last.spawn(listener.run(desk.clone()));
    }
    let unused = sockets.forget_inherited();
    if unused > 0 {
        tracing::info!(unused, "closed sockets that are configured no more");
    }
    for unused in sockets.forget_opened() {
        tracing::warn!(unused, "the service manager gave a socket that no listen key names");
    }
    manager.ready(&view, taken.is_some());
    keepers.spawn(manager.run(view.clone(), drained.clone()));
    if let Some(taken) = taken
        && let Err(error) = taken.serving().await
    {
        // It has ended by itself, or an operator must end it; this one serves either way.
        tracing::warn!(%error, "serving without a word from the old gate");
    }
    if let Some(mut giver) = giver {
        giver.take_place();
        keepers.spawn(giver.run(sockets, cache.clone(), drain.clone(), drained.clone()));
    }
    let tasks = Tasks { keepers, serving, behind, last };
    let ended = tokio::spawn(end_in_order(tasks, cache, drain.clone(), drained, late));
    Ok(Running { addrs, view, metrics, reloader, drain, ended })
}

/// The sockets of the gate that runs, where it is to give them away.
async fn take_over(path: Option<&Path>, opened: Vec<Opened>) -> Result<(Arc<Sockets>, Option<Taken>), StartError> {
    let Some(path) = path else { return Ok((Arc::new(Sockets::default().with_opened(opened)), None)) };
    let (inherited, taken) = handover::take(path).await?;
    Ok((Arc::new(Sockets::to_give_away(inherited).with_opened(opened)), taken))
}

/// Everything that runs, by when it may end.
struct Tasks {
    /// End when the drain begins.
    keepers: JoinSet<()>,
    /// End when their work is done after that.
    serving: JoinSet<()>,
    /// Ends when those have ended: the demo origin answers their last requests.
    behind: JoinSet<()>,
    /// End when all others have ended.
    last: JoinSet<()>,
}

/// Waits for the drain, or for a task that ended before its time, and ends everything in order.
async fn end_in_order(
    mut tasks: Tasks,
    cache: Option<CacheFile>,
    drain: Arc<DrainSignal>,
    mut drained: DrainWatch,
    late: DrainSignal,
) -> Result<(), PartFailed> {
    let failed = tokio::select! {
        () = drained.reached(Phase::Draining) => None,
        Some(_) = tasks.serving.join_next() => Some(PartFailed("a plane")),
        Some(_) = tasks.behind.join_next() => Some(PartFailed("the demo origin")),
        Some(_) = tasks.keepers.join_next() => Some(PartFailed("a reload")),
        Some(Err(_)) = tasks.last.join_next() => Some(PartFailed("the journal or the admin listener")),
    };
    // A task of the drain may be seen to end before the drain itself.
    let failed = failed.filter(|_| drained.phase() == Phase::Running);
    if let Some(failed) = &failed {
        tracing::error!("{failed}, stopping");
    }
    drain.advance(Phase::Draining);
    tracing::info!("draining, answers under way are finished");
    if timeout(DRAIN_MAX, all(&mut tasks.serving)).await.is_err() {
        tracing::warn!(seconds = DRAIN_MAX.as_secs(), "answers under way took too long, they are cut off");
    }
    drain.advance(Phase::Stopped);
    all(&mut tasks.serving).await;
    all(&mut tasks.behind).await;
    // The last query is answered. Where the next gate serves, the cache has been saved for that one.
    if let Some(cache) = cache.filter(|_| !drained.is_handed_over())
        && timeout(CACHE_SAVE_MAX, cache.save()).await.is_err()
    {
        tracing::warn!(seconds = CACHE_SAVE_MAX.as_secs(), "saving the answer cache took too long, it is left out");
    }
    late.advance(Phase::Draining);
    // What is not done by then ends with the next line.
    let _ = timeout(LAST_WORDS_MAX, all(&mut tasks.last)).await;
    late.advance(Phase::Stopped);
    tasks.keepers.shutdown().await;
    tasks.last.shutdown().await;
    tracing::info!("stopped");
    failed.map_or(Ok(()), Err)
}

/// Waits for every task, however it ends.
async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

fn admin_tls_error(error: CertificateError) -> StartError {
    StartError::Setup { plane: "admin", reason: format!("admin.tls: {error}") }
}

fn alert_error(error: AlertError) -> StartError {
    StartError::Setup { plane: "alert", reason: error.to_string() }
}

fn unfiled_error(config: &Config, error: &io::Error) -> StartError {
    let path = config.journal.unfiled.as_deref().unwrap_or(Path::new(""));
    StartError::Setup { plane: "journal", reason: format!("journal.unfiled {}: {error}", path.display()) }
}

/// The sink, open to what somebody reads: the journal, the admin listener's table of blocks, the domains that are remembered
/// or told of.
fn sink_for(journal: &JournalSettings, has_readers: bool) -> (Sink, mpsc::Receiver<VerdictRecord>) {
    match (journal.path.is_some(), journal.what) {
        (true, JournalWhat::All | JournalWhat::Sampled(_)) => Sink::of(Interest::All),
        (true, JournalWhat::Blocks) => Sink::of(Interest::Blocks),
        (false, _) if has_readers || journal.unfiled.is_some() => Sink::of(Interest::Blocks),
        // Nobody reads: the receiver's channel is at its end at once.
        (false, _) => (Sink::closed(), mpsc::channel(1).1),
    }
}

fn admin_error(error: admin::BindError) -> StartError {
    let reason = error.to_string();
    match error {
        admin::BindError::Socket { addr, .. } => cannot_listen("admin", addr, reason),
        admin::BindError::Local { .. } => StartError::Listen { plane: "admin", reason },
        admin::BindError::Unprotected(_) => StartError::Setup { plane: "admin", reason },
    }
}

//--- Signals ---------------------------------------------------------------------------------------------------------

/// The signals the gate obeys.
struct Signals {
    hangup: Signal,
    next: Signal,
    end: EndSignals,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (hangup, next) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
        Ok(Self { hangup, next, end: EndSignals { interrupt, terminate } })
    }
}

/// The signals that end it.
struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    /// Returns when one of them comes; none is lost when the call is given up.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Why [`run`] ended other than by a drain.
#[derive(Debug, Error)]
pub enum RunError {
    /// It ran, and a part of it failed.
    #[error(transparent)]
    Failed(#[from] PartFailed),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the gate until a signal ends it: SIGHUP reloads everything and opens the journal anew, SIGTERM and SIGINT drain,
/// a second of them stops at once. One of them during the start ends it there: nothing is served yet. SIGUSR2 starts the
/// next gate, which takes over.
///
/// A load that the end of the start cut off goes on on its thread; the caller's runtime must not wait for it.
pub async fn run(config: Config, opened: Vec<Opened>) -> Result<(), RunError> {
    // Before the data are loaded: a SIGHUP that comes early must not end the process.
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    // A task of its own, since steps of the start that block must not keep the signals waiting.
    let successor = config.admin.handover.is_some().then(Successor::of_process);
    let manager = Arc::new(Manager::of_process());
    let surroundings = Surroundings { clock: Clock::System, manager: manager.clone(), opened };
    let mut starting = tokio::spawn(start_in(config, surroundings));
    let started = tokio::select! {
        started = &mut starting => started,
        () = signals.end.recv() => {
            starting.abort();
            tracing::info!("stopped before anything was served");
            return Ok(());
        }
    };
    let running = started.map_err(|_| PartFailed("the start"))??;
    let (reloader, drain, view) = (running.reloader.clone(), running.drain.clone(), running.view.clone());
    let mut ended = std::pin::pin!(running.wait());
    let mut asked_to_end = false;
    loop {
        tokio::select! {
            ended = ended.as_mut() => return Ok(ended?),
            _ = signals.hangup.recv() => {
                drop(tokio::spawn(reload_on_hangup(reloader.clone(), manager.clone(), view.clone())));
            }
            _ = signals.next.recv() => start_next(successor.as_ref()),
            () = signals.end.recv() => {
                drain.advance(if asked_to_end { Phase::Stopped } else { Phase::Draining });
                asked_to_end = true;
            }
        }
    }
}

async fn reload_on_hangup(reloader: Reloader, manager: Arc<Manager>, view: SharedView) {
    manager.reloading();
    let report = reloader.reload(Shrink::Refuse).await;
    manager.ready(&view, false);
    tracing::info!(done = report.done.len(), refused = report.refused.len(), "reloaded on SIGHUP");
}

/// Starts the next gate where this one has a place to hand over at.
fn start_next(successor: Option<&io::Result<Successor>>) {
    match successor {
        None => tracing::warn!("SIGUSR2 starts the next gate only where admin.handover is set"),
        Some(Err(error)) => {
            tracing::error!(%error, "the next gate cannot be started: this program's path is not known")
        }
        Some(Ok(successor)) => match successor.start() {
            Ok(pid) => tracing::info!(pid, "started the next gate"),
            Err(error) => tracing::error!(%error, "the next gate cannot be started"),
        },
    }
}
