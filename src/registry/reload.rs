//! Hot reload: waits for a change, loads behind the serving threads, hands new snapshots to whoever publishes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Snapshot;
use super::diff::Diff;
use super::store::{ReloadOutcome, Shrink, Store};
use crate::count::plural;
use crate::drain::{DrainWatch, Phase};
use crate::priority::{Rank, apart};
use crate::watch::{Cause, Watch};

/// A reload asked for by hand, with the way to answer.
pub struct ReloadRequest {
    /// Whether a loss of rows is accepted this once.
    pub shrink: Shrink,
    /// Gets one line that tells what happened; `Err` when it was refused.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// Runs until the drain: reloads on change, poll and request, and calls `publish` with each new snapshot.
pub async fn run(
    store: Arc<Store>,
    publish: impl Fn(Arc<Snapshot>),
    mut requests: mpsc::Receiver<ReloadRequest>,
    mut drain: DrainWatch,
) {
    let mut paths = store.settings().paths.clone();
    paths.extend(store.settings().suffix_list.clone());
    paths.extend(store.settings().lint.paths().cloned());
    let mut watch = Watch::new(&paths, store.settings().poll);
    let mut publisher = Publisher { generation: generation(&store), publish };
    // Whoever started without said why.
    let mut refusals = Refusals::said(store.health());
    let mut tidying: Option<JoinHandle<()>> = Some(housekeeping(&store));
    // A state out of the snapshot file was compared by the stamps of files only: their contents are looked at now.
    let mut verify = store.is_unverified();
    let mut tried = None;
    let mut linting: Option<JoinHandle<()>> = None;
    loop {
        // One after the other: both go over all rows.
        let is_idle = tidying.is_none() && linting.is_none();
        let lint_due = if is_idle { store.lint_due(SystemTime::now()) } else { None };
        let (mut request, mut cause) = (None, Cause::Poll);
        tokio::select! {
            biased;
            () = drain.reached(Phase::Draining) => {
                store.stop_linting();
                return;
            }
            () = finished(&mut tidying) => {
                tidying = None;
                publisher.publish_latest(&store);
                continue;
            }
            () = finished(&mut linting) => {
                linting = None;
                continue;
            }
            () = until(lint_due) => {
                linting = Some(lint_beside(&store));
                continue;
            }
            () = std::future::ready(()), if verify => verify = false,
            at = due(&store, tried) => {
                tried = Some(at);
                cause = Cause::Event;
            }
            found = watch.changed() => cause = found,
            asked = requests.recv() => match asked {
                Some(asked) => request = Some(asked),
                None => return,
            },
        }
        let shrink = request.as_ref().map(|request| request.shrink);
        let outcome = reload_once(&store, shrink, cause, &mut publisher, &mut refusals).await;
        if let Some(request) = request {
            // Whoever asked may have gone away.
            let _ = request.answer.send(outcome);
        }
        if tidying.is_none() && store.is_untidy() {
            tidying = Some(housekeeping(&store));
        }
    }
}

/// Tidies where that is worth it, and writes the snapshot file if it has not this base yet.
fn housekeeping(store: &Arc<Store>) -> JoinHandle<()> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || {
        // The first event waits for it.
        apart(Rank::Soon, || store.prepare_events());
        apart(Rank::Idle, || store.tidy_beside());
        if store.is_untidy() {
            // Reloads came in between each time: they wait once.
            apart(Rank::Soon, || store.tidy_alone());
        }
        apart(Rank::Idle, || {
            if let Err(error) = store.save() {
                tracing::warn!(%error, "registry snapshot not written");
            }
        });
    })
}

/// Lints what is published.
fn lint_beside(store: &Arc<Store>) -> JoinHandle<()> {
    /// Up to so many rows it is over in a moment, and somebody may wait for the gauges.
    const SOON_ROWS_MAX: usize = 100_000;
    let rows = store.loaded().map_or(0, |loaded| loaded.snapshot.len());
    let rank = if rows > SOON_ROWS_MAX { Rank::Idle } else { Rank::Soon };
    let store = store.clone();
    tokio::task::spawn_blocking(move || apart(rank, || store.lint_beside(SystemTime::now())))
}

/// Returns at that time; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Returns when the time of a waiting event has come, which is not the one `tried` before; never without one.
async fn due(store: &Store, tried: Option<SystemTime>) -> SystemTime {
    /// Looks at the clock again after this, however far away the event: the clock may be set meanwhile.
    const AT_MOST: Duration = Duration::from_secs(60);
    while let Some(at) = store.next_due().filter(|at| Some(*at) != tried) {
        match at.duration_since(SystemTime::now()) {
            Ok(left) if left > Duration::ZERO => tokio::time::sleep(left.min(AT_MOST)).await,
            Ok(_) | Err(_) => return at,
        }
    }
    std::future::pending().await
}

/// Returns when the running housekeeping ends; never without one.
async fn finished(tidying: &mut Option<JoinHandle<()>>) {
    match tidying {
        // A panic in it leaves an untidy state, which is as right as a tidy one.
        Some(running) => drop(running.await),
        None => std::future::pending().await,
    }
}

/// Hands snapshots on, never an older one after a newer one: reloads and housekeeping end in any order.
struct Publisher<P> {
    generation: u64,
    publish: P,
}

impl<P: Fn(Arc<Snapshot>)> Publisher<P> {
    fn publish_latest(&mut self, store: &Store) {
        let Some(loaded) = store.loaded() else { return };
        if loaded.snapshot.generation() > self.generation {
            self.generation = loaded.snapshot.generation();
            (self.publish)(loaded.snapshot.clone());
        }
    }
}

/// What the log said of refusals last. A poll repeats a refusal; the log says it once, health and metrics go on saying it.
#[derive(Debug, Default)]
pub struct Refusals {
    said: Vec<String>,
}

impl Refusals {
    /// With reasons that the log has already; none where all was well.
    pub fn said(reasons: Vec<String>) -> Self {
        Self { said: reasons }
    }

    /// True for reasons other than those said last; they are taken for said from here on.
    pub fn is_news(&mut self, reasons: &[String]) -> bool {
        let is_news = self.said != reasons;
        if is_news {
            self.said = reasons.to_vec();
        }
        is_news
    }

    /// A load took: the same reasons are news when they come again.
    pub fn end(&mut self) {
        self.said.clear();
    }
}

fn generation(store: &Store) -> u64 {
    store.loaded().map_or(0, |loaded| loaded.snapshot.generation())
}

async fn reload_once(
    store: &Arc<Store>,
    shrink: Option<Shrink>,
    cause: Cause,
    publisher: &mut Publisher<impl Fn(Arc<Snapshot>)>,
    refusals: &mut Refusals,
) -> Result<String, String> {
    let loading = store.clone();
    let load = move || match (shrink, cause) {
        // The stamps of files tell what an event was about; what no stamp tells the poll finds.
        (None, Cause::Event) => loading.reload_changed(SystemTime::now()),
        (shrink, _) => loading.reload(SystemTime::now(), shrink.unwrap_or_default()),
    };
    let loading = tokio::task::spawn_blocking(move || apart(Rank::Soon, load));
    tokio::pin!(loading);
    let outcome = loop {
        tokio::select! {
            outcome = &mut loading => break outcome,
            // What is published still keeps the old rows in memory.
            () = store.has_moved_out() => publisher.publish_latest(store),
        }
    };
    let Ok(outcome) = outcome else { return Err("the load was cut off by an internal error".to_owned()) };
    match outcome {
        ReloadOutcome::Published(snapshot, Diff { added, changed, removed, .. }) => {
            let (generation, rows) = (snapshot.generation(), snapshot.len());
            publisher.publish_latest(store);
            refusals.end();
            tracing::info!(generation, rows, added, changed, removed, "registry published");
            let rows = plural(rows, "row");
            Ok(format!(
                "registry: generation {generation}, {rows}, {added} added, {changed} changed, {removed} removed"
            ))
        }
        ReloadOutcome::Refused(error) => {
            if refusals.is_news(&error.reasons) {
                tracing::warn!(reason = %error, "registry reload refused, the last good state stays");
            } else {
                tracing::debug!(reason = %error, "registry reload still refused");
            }
            Err(format!("registry: refused: {error}"))
        }
        ReloadOutcome::Unchanged => {
            refusals.end();
            Ok("registry: unchanged".to_owned())
        }
    }
}
