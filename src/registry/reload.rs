//! Hot reload: waits for a change, loads off the serving threads, hands new snapshots to whoever publishes.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use super::Snapshot;
use super::diff::Diff;
use super::store::{ReloadOutcome, Shrink, Store};
use crate::drain::{DrainWatch, Phase};
use crate::watch::Watch;

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
    let mut watch = Watch::new(&paths, store.settings().poll);
    loop {
        let mut request = None;
        tokio::select! {
            () = drain.reached(Phase::Draining) => return,
            () = watch.changed() => {}
            asked = requests.recv() => match asked {
                Some(asked) => request = Some(asked),
                None => return,
            },
        }
        let shrink = request.as_ref().map(|request| request.shrink).unwrap_or_default();
        let outcome = reload_once(store.clone(), shrink, &publish).await;
        if let Some(request) = request {
            // Whoever asked may have gone away.
            let _ = request.answer.send(outcome);
        }
    }
}

async fn reload_once(store: Arc<Store>, shrink: Shrink, publish: &impl Fn(Arc<Snapshot>)) -> Result<String, String> {
    let was_refused = !store.health().is_empty();
    let loading = tokio::task::spawn_blocking(move || store.reload(SystemTime::now(), shrink));
    let Ok(outcome) = loading.await else { return Err("the load was cut off by an internal error".to_owned()) };
    match outcome {
        ReloadOutcome::Published(snapshot, Diff { added, changed, removed, .. }) => {
            let (generation, rows) = (snapshot.generation(), snapshot.len());
            publish(snapshot);
            tracing::info!(generation, rows, added, changed, removed, "registry published");
            Ok(format!(
                "registry: generation {generation}, {rows} rows, {added} added, {changed} changed, {removed} removed"
            ))
        }
        ReloadOutcome::Refused(error) => {
            // A poll repeats the refusal; the log says it once, health and metrics go on saying it.
            if was_refused {
                tracing::debug!(reason = %error, "registry reload still refused");
            } else {
                tracing::warn!(reason = %error, "registry reload refused, the last good state stays");
            }
            Err(format!("registry: refused: {error}"))
        }
        ReloadOutcome::Unchanged => Ok("registry: unchanged".to_owned()),
    }
}
