//! The data verdicts rest on: loaded before anything is bound, published and kept current afterwards.

use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

use super::StartError;
use crate::config::Config;
use crate::count::Observe;
use crate::drain::DrainWatch;
use crate::model::SuffixTable;
use crate::ops::Missing;
use crate::ops::faults::Faults;
use crate::ops::load_line::LoadLine;
use crate::ops::reloader::REQUESTS_MAX;
use crate::policy::{Clock, SharedView, View};
use crate::ranges;
use crate::ranges::Ranges;
use crate::registry;
use crate::registry::reload::ReloadRequest;
use crate::registry::store::OurAddresses;
use crate::registry::{LoadError, Shrink, Snapshot};

/// The two stores after their first load.
pub struct Data {
    pub registry: Arc<registry::Store>,
    pub ranges: Arc<ranges::Store>,
}

/// The ranges as the linter asks for them.
struct AddressesOf(Arc<ranges::Store>);

impl OurAddresses for AddressesOf {
    /// Before they are loaded nobody can say that an address is not ours.
    fn is_ours(&self, net: &IpNet) -> bool {
        self.0.loaded().is_none_or(|loaded| loaded.ranges.is_ours_on_mainland(net))
    }

    fn generation(&self) -> u64 {
        self.0.loaded().map_or(0, |loaded| loaded.ranges.generation())
    }
}

impl Data {
    /// Loads both, each on a thread of its own. What cannot be loaded stops the start where the settings say so.
    pub async fn load(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        let registry = Arc::new(registry::Store::new(config.registry.clone()));
        let ranges = Arc::new(ranges::Store::new(config.ranges.clone()));
        if !config.ranges.paths().is_empty() {
            registry.lint_with_addresses(Arc::new(AddressesOf(ranges.clone())));
        }
        let now = clock.now();
        let (store, other_store) = (registry.clone(), ranges.clone());
        let loading = spawn_blocking(move || match store.reload(now, Shrink::Refuse) {
            registry::ReloadOutcome::Refused(error) => Err(error),
            // Nothing is there to compare with: an export that failed after its header would block everybody.
            registry::ReloadOutcome::Published(snapshot, _) if snapshot.is_empty() => Err(one("no filing in any file")),
            registry::ReloadOutcome::Published(..) | registry::ReloadOutcome::Unchanged => Ok(()),
        });
        let other_loading = spawn_blocking(move || match other_store.reload(now, Shrink::Refuse) {
            ranges::ReloadOutcome::Refused(error) => Err(error),
            ranges::ReloadOutcome::Published(ranges, _) if !ranges.has_mainland() => {
                Err(one("no mainland address in any file, so no name would need a filing"))
            }
            ranges::ReloadOutcome::Published(..) | ranges::ReloadOutcome::Unchanged => Ok(()),
        });
        let line = LoadLine::begin(registry.progress());
        let (loaded, other_loaded) = tokio::join!(loading, other_loading);
        drop(line);
        may_miss("registry", loaded, config.faults.on_missing_registry).map_err(StartError::Registry)?;
        may_miss("ranges", other_loaded, config.faults.on_missing_ranges).map_err(StartError::Ranges)?;
        Ok(Self { registry, ranges })
    }

    /// The view of what was loaded; what was not is empty, generation 0, which is a fault.
    pub fn first_view(&self, config: &Config) -> View {
        let without = || Arc::new(Snapshot::empty(Arc::new(SuffixTable::built_in())));
        View {
            rules: Arc::new(config.rules.clone()),
            registry: self.registry.loaded().map_or_else(without, |loaded| loaded.snapshot.clone()),
            ranges: self.ranges.loaded().map_or_else(|| Arc::new(Ranges::empty()), |loaded| loaded.ranges.clone()),
            faults: Vec::new(),
            shadow: None,
        }
    }

    /// What the stores count.
    pub fn sources(&self) -> [Arc<dyn Observe>; 2] {
        [self.registry.counters(), self.ranges.counters()]
    }

    /// Keeps both current until the drain, each from its own requests.
    ///
    /// A first request is made at once: what changed between the first load and the watch is seen then.
    pub fn keep(
        &self,
        tasks: &mut JoinSet<()>,
        (view, faults): (&SharedView, &Arc<Faults>),
        (registry_asked, ranges_asked): (Requests, Requests),
        drain: &DrainWatch,
    ) {
        for requests in [&registry_asked, &ranges_asked] {
            let (answer, _) = oneshot::channel();
            // The queue of a gate that begins has room.
            let _ = requests.sender.try_send(ReloadRequest { shrink: Shrink::Refuse, answer });
        }
        let (shared, looking) = (view.clone(), faults.clone());
        let publish = move |snapshot: Arc<Snapshot>| {
            shared.update(|view| view.registry = snapshot.clone());
            looking.look();
        };
        tasks.spawn(registry::reload::run(self.registry.clone(), publish, registry_asked.receiver, drain.clone()));
        let (shared, looking) = (view.clone(), faults.clone());
        let publish = move |ranges: Arc<Ranges>| {
            shared.update(|view| view.ranges = ranges.clone());
            looking.look();
        };
        tasks.spawn(ranges::reload::run(self.ranges.clone(), publish, ranges_asked.receiver, drain.clone()));
    }
}

/// The requests of one part, both ends.
pub struct Requests {
    pub sender: mpsc::Sender<ReloadRequest>,
    pub receiver: mpsc::Receiver<ReloadRequest>,
}

impl Requests {
    /// A queue for a few requests.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        Self { sender, receiver }
    }
}

fn one(reason: &str) -> LoadError {
    LoadError { reasons: vec![reason.to_owned()] }
}

/// Lets a failed first load pass where the settings allow to start without.
fn may_miss(
    what: &'static str,
    loaded: Result<Result<(), LoadError>, tokio::task::JoinError>,
    on_missing: Missing,
) -> Result<(), LoadError> {
    let cut_off = || one("the load was cut off by an internal error");
    let Err(error) = loaded.unwrap_or_else(|_| Err(cut_off())) else { return Ok(()) };
    if on_missing == Missing::Refuse {
        return Err(error);
    }
    tracing::warn!(reason = %error, ?on_missing, "{what} could not be loaded, starting without");
    Ok(())
}
